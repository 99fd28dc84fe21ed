"""The benchmark of plans: which runs it compares, and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plan
import pytest
from plan import RECIPES, ROOT, Outcome, figures_of, ratio_of_sums

from headstart.recipe.load import load_recipe
from headstart.records import read_record
from results_file import Result
from tests.tiny import tiny_recipe, write_recipe


def test_there_are_enough_recipes_and_all_distil() -> None:
    assert len(RECIPES) >= 6
    for file, _ in RECIPES.values():
        assert load_recipe(ROOT / "recipes" / f"{file}.yaml").distill is not None


@pytest.mark.parametrize("name", plan.RECIPES)
def test_each_is_shortened_whatever_its_teachers_say_of_their_own_length(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "stand_in", lambda made, folder: None)
    recipe = plan.shortened(name, 7, tmp_path)
    assert (recipe.train.steps, recipe.train.epochs, recipe.teachers) == (7, None, {})


def test_a_ratio_is_that_of_the_sums_and_its_interval_of_blocks() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    pairs = [*((1.0, 2.1 + error) for error in noise), *[(1.0, 1.0)] * 50]
    value, low, high = ratio_of_sums(pairs)
    assert value == pytest.approx((50 * 2.1 + noise.sum() + 50) / 100)
    # The parts of a run do not mix: one in which nothing varies has no share in the interval.
    error = 1.96 * 0.1 * np.sqrt(50) / 100
    assert low < value < high and 0.6 * error < (high - low) / 2 < 1.4 * error


def test_errors_are_relative_and_the_worst_counts() -> None:
    outcomes = {
        "one": Outcome(1.2, (1.25, 1.2, 1.3), 1_100_000, 1_000_000, 10),
        "two": Outcome(1.1, (1.0, 0.9, 1.1), None, 1_000_000, 10),
    }
    figures = figures_of(outcomes)
    assert figures["overhead_error.one"].value == pytest.approx(-0.04)
    assert figures["worst_overhead_error"].value == pytest.approx(0.1)
    assert figures["worst_memory_error"].value == pytest.approx(0.1) and figures["worst_memory_error"].n == 1
    assert "memory_error.two" not in figures and figures["memory.two.measured"].unit == "MB"


@pytest.mark.slow
def test_it_plans_runs_and_compares(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(
        tiny_data, teachers={"old": {"train.steps": 4}}, distill={"teachers": ["old"]}, init={"from": "old"}
    )
    (tmp_path / "recipes").mkdir()
    write_recipe(tmp_path / "recipes" / "tiny.yaml", recipe)
    monkeypatch.setattr(plan, "RECIPES", {"tiny": ("tiny", {})})
    monkeypatch.setattr(plan, "ROOT", tmp_path)
    arguments = ["--steps", "6", "--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    plan.main(arguments)
    result = read_record(Result, tmp_path / "plan.json")
    assert result.figures["overhead.tiny.measured"].n == 6 and "worst_overhead_error" in result.figures
    assert result.figures["memory.tiny.measured"].value > 50
    first = capsys.readouterr().out.splitlines()[0]
    monkeypatch.setattr(plan, "planned", None)  # what was measured is not measured again
    plan.main(arguments)
    assert capsys.readouterr().out.splitlines()[0] == first
