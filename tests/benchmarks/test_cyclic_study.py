"""What the study of cyclic races reads from its two races."""

from __future__ import annotations

import pytest
from cyclic_study import figures_of, study_recipe

from headstart.race import judge
from headstart.records import Arm, Curve, RaceRecord, RunRecord

BUDGETS, SEEDS = [1.0, 3.0, 7.0], [0, 1, 2]


def made(curve: Curve, lift: float) -> RaceRecord:
    """A race whose qualities rise with the budget, and with the seed by `lift`."""
    runs = [
        RunRecord(
            arm=arm,
            budget=budget,
            seed=seed,
            quality=gain + 0.05 * budget + lift * seed * (budget > 1),
            seconds=10 * budget,
            flops=100 * budget,
        )
        for arm, gain in (("baseline", 0.4), ("distill", 0.42))
        for budget in BUDGETS
        for seed in SEEDS
    ]
    arms = [Arm(name="baseline"), Arm(name="distill")]
    race = RaceRecord(
        arms=arms,
        baseline="baseline",
        primary="distill",
        budgets=BUDGETS,
        budget_unit="epochs",
        seeds=SEEDS,
        runs=runs,
        curve=curve,
    )
    return judge(race)


def test_figures() -> None:
    figures = figures_of(made("separate", 0.001), made("cyclic", 0.003))
    assert figures["quality.separate.baseline.3-epochs"].value == pytest.approx(0.551)
    assert figures["quality.cyclic.distill.7-epochs"].value == pytest.approx(0.773)
    first, last = figures["difference.distill.1-epochs"], figures["difference.distill.7-epochs"]
    assert (first.value, first.low, first.high) == (0, 0, 0)
    assert last.value == pytest.approx(0.002) and last.n == 3
    # 0, 0.002 and 0.004, with Student's t of 2 degrees of freedom, 4.303.
    assert last.low == pytest.approx(0.002 - 4.302652729696142 * 0.002 / 3**0.5)
    assert {"speedup.separate.distill.seconds", "speedup.cyclic.distill.flops"} <= figures.keys()


def test_a_cyclic_race_computes_its_longest_runs_only() -> None:
    figures = figures_of(made("separate", 0.001), made("cyclic", 0.001))
    assert figures["flops.separate"].value == 2 * 3 * 100 * (1 + 3 + 7)
    assert figures["flops.cyclic"].value == 2 * 3 * 100 * 7
    assert figures["compute_ratio"].value == pytest.approx(7 / 11)
    assert figures["seconds.cyclic"].value == 420


def test_both_races_are_of_the_same_runs() -> None:
    separate, cyclic = (
        study_recipe(curve, first_cycle=0.1, cycles=3, seeds=2, width=4) for curve in ("separate", "cyclic")
    )
    assert separate.race is not None and cyclic.race is not None
    assert separate.race.budgets == [0.1, 0.3, 0.7] and separate.race.seeds == [0, 1]
    assert cyclic.race.model_copy(update={"curve": "separate"}) == separate.race
    assert cyclic.model_copy(update={"race": None}) == separate.model_copy(update={"race": None})
