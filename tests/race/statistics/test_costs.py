"""What runs and teachers cost on each clock."""

from __future__ import annotations

import pytest

from headstart.race.statistics.costs import CLOCKS, run_cost, teacher_cost
from headstart.records import Calibration, RunRecord, StepTime, TeacherCost

CALIBRATION = Calibration(kinds={"plain": StepTime(seconds=0.1), "distilling": StepTime(seconds=0.3)})


def _run(**more: object) -> RunRecord:
    return RunRecord.model_validate({"quality": 0.9, "seconds": 50.0, **more})


def test_calibrated_seconds_are_steps_times_step_time() -> None:
    run = _run(steps={"plain": 100, "distilling": 50})
    assert run_cost(run, "calibrated", CALIBRATION) == pytest.approx(100 * 0.1 + 50 * 0.3)


@pytest.mark.parametrize("steps", [{}, {"plain": 1, "unknown": 1}, {"plain": 0}])
def test_no_calibrated_cost_without_all_kinds(steps: dict[str, int]) -> None:
    assert run_cost(_run(steps=steps), "calibrated", CALIBRATION) is None
    assert run_cost(_run(steps={"plain": 1}), "calibrated", None) is None


def test_a_cost_of_zero_is_no_cost() -> None:
    assert run_cost(_run(flops=0.0), "flops", None) is None
    assert run_cost(_run(flops=3.0), "flops", None) == 3.0


def test_teachers_are_summed_in_a_run_and_averaged_over_runs() -> None:
    small = TeacherCost(name="small", seconds=10, flops=1e9, steps={"plain": 100})
    large = TeacherCost(name="large", seconds=30, flops=2e9, steps={"plain": 200})
    runs = [_run(teachers=[small, large]), _run(teachers=[large])]
    assert teacher_cost(runs, "seconds", None) == 35.0
    assert teacher_cost(runs, "flops", None) == 2.5e9
    assert teacher_cost(runs, "calibrated", CALIBRATION) == pytest.approx(25.0)


def test_teacher_cost_is_unknown_when_one_is() -> None:
    known, unknown = TeacherCost(name="known", seconds=10), TeacherCost(name="unknown")
    assert teacher_cost([_run(teachers=[known, unknown])], "seconds", None) is None
    assert teacher_cost([_run(teachers=[known]), _run()], "seconds", None) is None
    assert teacher_cost([_run(teachers=[known])], "calibrated", CALIBRATION) is None
    assert teacher_cost([], "seconds", None) is None


def test_making_a_cache_is_part_of_the_cost() -> None:
    """On every clock; in seconds it was timed, on the calibrated clock too."""
    cached = TeacherCost(name="old", seconds=10, flops=1e9, steps={"plain": 100}, cache_seconds=3, cache_flops=2e8)
    found = [teacher_cost([_run(teachers=[cached])], clock, CALIBRATION) for clock in CLOCKS]
    assert found == pytest.approx([10.0 + 3.0, 10.0 + 3.0, 1.2e9])


def test_a_cache_does_not_make_up_for_a_training_that_is_not_known() -> None:
    unknown = TeacherCost(name="old", cache_seconds=3)
    uncounted = TeacherCost(name="old", flops=1e9, cache_seconds=3)
    assert teacher_cost([_run(teachers=[unknown])], "seconds", None) is None
    assert teacher_cost([_run(teachers=[uncounted])], "flops", None) is None
