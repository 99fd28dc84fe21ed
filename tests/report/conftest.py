"""A synthetic race, judged by hand: 3 arms x 4 budgets x 3 seeds, two failures, a calibration, teachers with costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from headstart.records import (
    Arm,
    ArmResult,
    Calibration,
    Estimate,
    Failure,
    RaceRecord,
    RunRecord,
    StepTime,
    TeacherCost,
)

ARMS = ("baseline", "early", "whole")
BUDGETS = (2.0, 4.0, 8.0, 16.0)
SEEDS = (0, 1, 2)
STEPS_PER_EPOCH = 469
FAILED = (("whole", 8.0, 1), ("whole", 16.0, 2))

CALIBRATION = Calibration(
    kinds={
        "plain": StepTime(seconds=0.052, low=0.051, high=0.053, n=200, data_seconds=0.004),
        "distilling": StepTime(seconds=0.074, low=0.073, high=0.076, n=200, data_seconds=0.004, teacher_seconds=0.021),
    },
    device="2 cores",
    seconds=31.0,
)
TEACHERS = [
    TeacherCost(name="large", quality=0.929, parameters=172_506, seconds=420.0, flops=2.4e14, steps={"plain": 7035}),
    TeacherCost(name="small", quality=0.9071, parameters=78_042, seconds=215.0, flops=1.1e14, steps={"plain": 7035}),
]


def make_run(arm: str, budget: float, seed: int) -> RunRecord:
    """One run; its noise is a pure function of the cell."""
    noise = random.Random(f"{arm} {budget} {seed}").gauss(0.0, 0.0012)
    start, share = {"baseline": (0.058, 0.0), "early": (0.042, 0.5), "whole": (0.039, 1.0)}[arm]
    steps = int(budget * STEPS_PER_EPOCH)
    distilling = int(share * steps)
    teacher_flops = 0.9e9 * 128 * distilling
    return RunRecord(
        arm=arm,
        budget=budget,
        seed=seed,
        metric="accuracy",
        quality=0.932 - start * (budget / 2) ** -0.75 + noise,
        seconds=1.08 * (0.052 * (steps - distilling) + 0.074 * distilling) + 3 * random.Random(seed).random(),
        steps={"plain": steps - distilling, "distilling": distilling},
        flops=1.1e9 * 128 * steps + teacher_flops,
        teacher_flops=teacher_flops,
        teachers=TEACHERS if share else [],
    )


def make_result(arm: str, clock: str, **changes: Any) -> ArmResult:
    """The result of an arm that reached the target and is faster."""
    in_flops = clock == "flops"
    fields: dict[str, Any] = {
        "arm": arm,
        "clock": clock,
        "status": "reached",
        "verdict": "faster",
        "target_quality": 0.9205,
        "reference_budget": 16.0,
        "baseline_cost": 1.06e15 if in_flops else 390.2,
        "arm_cost": 7.1e14 if in_flops else 229.5,
        "speedup": Estimate(value=1.7, low=1.5, high=1.9),
        "gain": Estimate(value=0.0042, low=0.0021, high=0.0063),
        "teacher_cost": 3.5e14 if in_flops else 635.0,
        "loaded_speedup": 0.45,
        "break_even": 4,
    }
    return ArmResult.model_validate({**fields, **changes})


def make_race() -> RaceRecord:
    """The race, judged on all three clocks: `early` is faster, `whole` is not resolved."""
    cells = [(arm, budget, seed) for budget in BUDGETS for seed in SEEDS for arm in ARMS]
    whole = {"speedup": Estimate(value=1.31, low=0.95, high=1.62), "verdict": "not resolved", "break_even": 12}
    results = [
        make_result(arm, clock, **changes)
        for arm, changes in (("early", {}), ("whole", whole))
        for clock in ("calibrated", "seconds", "flops")
    ]
    return RaceRecord(
        name="garments",
        arms=[
            Arm(name="baseline", description="without teachers"),
            Arm(name="early", description="distilling the first half", overrides={"distill.stop": 0.5}),
            Arm(name="whole", description="distilling throughout", overrides={"distill.stop": 1.0}),
        ],
        baseline="baseline",
        primary="early",
        budgets=list(BUDGETS),
        budget_unit="epochs",
        seeds=list(SEEDS),
        runs=[make_run(*cell) for cell in cells if cell not in FAILED],
        failures=[
            Failure(arm=arm, budget=budget, seed=seed, message="loss not finite") for arm, budget, seed in FAILED
        ],
        calibration=CALIBRATION,
        results=results,
        headline_clock="calibrated",
        recipe="model: resnet8\ntrain:\n  lr: 0.1  # peak\n",
        command="headstart race recipes/garments.yaml",
        environment={"python": "3.11.2", "device": "cpu, 2 threads"},
        date="2026-03-01",
    )


@pytest.fixture(scope="session")
def race() -> RaceRecord:
    """The race."""
    return make_race()


@pytest.fixture
def with_primary(race: RaceRecord) -> Callable[..., RaceRecord]:
    """A function that gives the race without failures and with other fields in the primary arm's headline result."""

    def change(**changes: Any) -> RaceRecord:
        planned = [make_run(arm, budget, seed) for arm in ARMS for budget in BUDGETS for seed in SEEDS]
        results = [make_result("early", "calibrated", **changes)]
        return race.model_copy(update={"runs": planned, "failures": [], "results": results})

    return change
