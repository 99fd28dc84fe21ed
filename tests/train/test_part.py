"""Runs that distil part of each batch: what they learn, cost, and are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from headstart.distill import Distiller, Teacher
from headstart.distill.targets.source import Keys, Target
from headstart.errors import RecipeError
from headstart.recipe.load import dump_recipe, parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import distill_kind
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def recipe(data: Path, teachers: list[str], /, **overrides: Any) -> Recipe:
    return tiny_recipe(data, **{"distill__teachers": teachers, "distill__stop": 0.7, **overrides})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_teachers_are_shown_the_first_images_of_each_micro_batch(
    accumulate: int, tiny_data: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(recipe(tiny_data, teachers, distill__fraction=0.5, train__accumulate=accumulate))
    seen: list[torch.Tensor] = []
    targets = Teacher.targets

    def noted(teacher: Teacher, inputs: torch.Tensor, keys: Keys | None = None) -> Target:
        seen.append(inputs)
        return targets(teacher, inputs, keys)

    monkeypatch.setattr(Teacher, "targets", noted)
    session.train_step(0)
    batches = [session.task.batch(0, 24, part=part, parts=accumulate) for part in range(accumulate)]
    expected = [batch.inputs[: 12 // accumulate] for batch in batches]
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


def test_teachers_cost_in_proportion(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    whole = train(recipe(tiny_data, teachers), tmp_path / "whole")
    part = train(recipe(tiny_data, teachers, distill__fraction=0.25), tmp_path / "part")
    assert part.teacher_flops and whole.teacher_flops == 4 * part.teacher_flops
    assert whole.flops and part.flops and whole.flops - part.flops == 3 * part.teacher_flops
    assert whole.steps.keys() ^ part.steps.keys() == {
        distill_kind(recipe(tiny_data, teachers, distill__fraction=fraction)) for fraction in (1.0, 0.25)
    }


def test_all_of_a_batch_is_what_a_recipe_without_the_key_means(tiny_data: Path, teachers: list[str]) -> None:
    """Run folders of versions that did not know it stay good."""
    spelled_out = yaml.safe_load(dump_recipe(recipe(tiny_data, teachers)))
    assert spelled_out["distill"].pop("fraction") == 1.0
    assert parse_recipe(spelled_out, "an older run folder") == recipe(tiny_data, teachers)


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_other_fractions_are_refused(fraction: float, tiny_data: Path, teachers: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"distill\.fraction"):
        recipe(tiny_data, teachers, distill__fraction=fraction)


def test_asking_teachers_before_the_student_changes_no_weight(
    tiny_data: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for prefetch in (Distiller.prefetch, lambda *_, **__: None):
        monkeypatch.setattr(Distiller, "prefetch", prefetch)
        session = Session(recipe(tiny_data, teachers))
        for step in range(session.total_steps):
            session.train_step(step)
        weights.append(session.student.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
