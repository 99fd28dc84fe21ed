"""Which runs of a race are scored on GLUE, and the figures that come of it."""

from __future__ import annotations

import pytest

from headstart.records import Arm, RaceRecord, RunRecord

pytest.importorskip("sklearn", reason="GLUE needs headstart[text]")

from glue import chosen_runs, figures_of, t_figure
from headstart.tasks.glue import GlueRecord
from headstart.tasks.glue.results import Making, SeedScore, over_seeds, over_tasks

MADE = Making(checkpoint="x", start="pretraining", epochs=1, precision="fp32", max_length=256)
T_2 = 4.302652729696142  # Student's t, 97.5 %, 2 degrees of freedom: from tables
T_1 = 12.706204736174704


def record(cola: float, accuracy: float, f1: float) -> GlueRecord:
    seeds = [
        SeedScore(task=task, seed=0, metrics=metrics, made=MADE, samples=1, steps=1, seconds=1)
        for task, metrics in (("cola", {"matthews": cola}), ("mrpc", {"accuracy": accuracy, "f1": f1}))
    ]
    return over_tasks("x", [over_seeds([seed]) for seed in seeds], missing={}, notes=[])


SCORES = {
    "baseline": {0: record(0.1, 0.5, 0.7), 1: record(0.2, 0.5, 0.7), 2: record(0.6, 0.5, 0.7)},
    "distill": {0: record(0.3, 0.6, 0.8), 1: record(0.5, 0.6, 0.8), 2: record(0.7, 0.6, 0.8)},
    "early": {1: record(0.4, 0.5, 0.9)},
}


def test_the_interval_is_students() -> None:
    figure = t_figure([1.0, 2.0, 6.0])
    assert figure.value == pytest.approx(3.0) and figure.n == 3
    reach = T_2 * 7**0.5 / 3**0.5  # the variance is (4 + 1 + 9) / 2
    assert [figure.low, figure.high] == pytest.approx([3 - reach, 3 + reach])
    two = t_figure([1.0, 3.0])
    assert two.high == pytest.approx(2 + T_1)


def test_a_single_value_has_no_interval_and_equal_ones_have_an_empty_one() -> None:
    single, equal = t_figure([0.5]), t_figure([0.5, 0.5])
    assert (single.value, single.low, single.high, single.n) == (0.5, None, None, 1)
    assert (equal.low, equal.high) == (0.5, 0.5)


def test_means_over_seeds_of_pretraining() -> None:
    figures = figures_of(SCORES, "baseline")
    assert figures["cola.baseline"].value == pytest.approx(0.3)
    assert figures["mrpc.distill"].value == pytest.approx(0.7)
    assert figures["mrpc.f1.distill"].value == pytest.approx(0.8)
    assert figures["glue.baseline"].value == pytest.approx((0.3 + 0.6) / 2)
    assert figures["cola.early"].n == 1 and figures["tasks"].value == 2
    assert "cola.matthews.baseline" not in figures


def test_differences_are_taken_seed_by_seed() -> None:
    figures = figures_of(SCORES, "baseline")
    difference = figures["cola.distill-minus-baseline"]
    # 0.2, 0.3 and 0.1: their spread is far less than the arms' own.
    assert difference.value == pytest.approx(0.2) and difference.n == 3
    assert difference.low == pytest.approx(0.2 - T_2 * 0.1 / 3**0.5)
    assert difference.low is not None and difference.low > -0.05
    early = figures["cola.early-minus-baseline"]
    assert early.value == pytest.approx(0.2) and early.n == 1
    assert not any("baseline-minus" in name for name in figures)


def race(*runs: tuple[str, float, int]) -> RaceRecord:
    return RaceRecord(
        arms=[Arm(name="plain"), Arm(name="taught"), Arm(name="early")],
        baseline="plain",
        primary="taught",
        budgets=[1, 2],
        seeds=[0, 1],
        runs=[RunRecord(arm=arm, budget=budget, seed=seed, quality=1, seconds=1) for arm, budget, seed in runs],
    )


RACE = race(
    *[(arm, budget, seed) for arm in ("plain", "taught") for budget in (1, 2) for seed in (0, 1)], ("early", 1, 0)
)


def chosen(race: RaceRecord, arms: list[str], budget: float | None = None) -> list[tuple[str, float, int]]:
    return [(run.arm, run.budget, run.seed) for run in chosen_runs(race, arms, budget)]


def test_runs_are_those_of_each_arms_largest_budget() -> None:
    assert chosen(RACE, []) == [("plain", 2, 0), ("plain", 2, 1), ("taught", 2, 0), ("taught", 2, 1), ("early", 1, 0)]
    # The baseline comes with any choice.
    assert chosen(RACE, ["early"]) == [("plain", 2, 0), ("plain", 2, 1), ("early", 1, 0)]
    assert {budget for _, budget, _ in chosen(RACE, ["taught"], 1)} == {1}


def test_an_arm_may_have_a_budget_of_its_own() -> None:
    assert chosen(RACE, ["taught@1"]) == [("plain", 2, 0), ("plain", 2, 1), ("taught", 1, 0), ("taught", 1, 1)]
    with pytest.raises(SystemExit, match="taught@all: give a number after the @, such as taught@1250"):
        chosen_runs(RACE, ["taught@all"], None)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such arm: late; there are plain, taught, early"):
        chosen_runs(RACE, ["late"], None)
    with pytest.raises(SystemExit, match="no finished runs: early at budget 2; name"):
        chosen_runs(RACE, ["early"], 2)
    with pytest.raises(SystemExit, match="no finished runs"):
        chosen_runs(race(), [], None)
