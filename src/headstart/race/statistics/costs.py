"""What a run, and what the training of its teachers, cost on each of the clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from headstart.records import Calibration, Clock, RunRecord, TeacherCost

CLOCKS: tuple[Clock, ...] = ("calibrated", "seconds", "flops")


def run_cost(run: RunRecord, clock: Clock, calibration: Calibration | None) -> float | None:
    """The cost of one run.

    Args:
        run: The run.
        clock: `seconds` as measured; `flops` as counted; `calibrated`: the sum over the kinds of steps of their number
            times their calibrated step time, in seconds, and what an init from an older model, or a look at the
            teachers, took, as measured.
        calibration: The calibrated step times, where there are any.

    Returns:
        Seconds or FLOPs; None where the clock does not know the run: no FLOPs, no steps, a kind of step that was not
        calibrated, or a cost of 0, which has no place on a logarithmic axis.

    Example:
        >>> from headstart.records import StepTime
        >>> calibration = Calibration(kinds={"plain": StepTime(seconds=0.25), "distilling": StepTime(seconds=0.5)})
        >>> run = RunRecord(quality=0.9, seconds=70.0, steps={"plain": 100, "distilling": 50})
        >>> run_cost(run, "calibrated", calibration), run_cost(run, "seconds", calibration)
        (50.0, 70.0)
        >>> run_cost(run, "flops", calibration) is None
        True
    """
    cost = _on(clock, run, calibration)
    if cost and clock == "calibrated":
        cost += sum(before.seconds for before in (run.init, run.auto) if before is not None)
    return cost or None


def available(runs: Iterable[RunRecord], clock: Clock, calibration: Calibration | None) -> bool:
    """Whether the clock knows the cost of every one of these runs."""
    return all(run_cost(run, clock, calibration) is not None for run in runs)


def teacher_cost(runs: Sequence[RunRecord], clock: Clock, calibration: Calibration | None) -> float | None:
    """What it cost to make an arm's teachers: the sum over the teachers of a run, averaged over the runs.

    That is their training, and where their targets were read from a cache the whole of making that. A cache is timed
    while it is made, and so are its calibrated seconds.

    Returns:
        Seconds or FLOPs; None where a run names no teachers, or the clock does not know the cost of one of them.
    """
    sums: list[float] = []
    for run in runs:
        costs = [_made(clock, teacher, calibration) for teacher in run.teachers]
        known = [cost for cost in costs if cost is not None]
        if not costs or len(known) < len(costs):
            return None
        sums.append(sum(known))
    return fmean(sums) if sums else None


def _made(clock: Clock, teacher: TeacherCost, calibration: Calibration | None) -> float | None:
    """Of a teacher, and of the cache of its targets if it was not there itself."""
    training = _on(clock, teacher, calibration)
    if training is None or teacher.cache_seconds is None:
        return training
    cache = teacher.cache_flops if clock == "flops" else teacher.cache_seconds
    return None if cache is None else training + cache


def _on(clock: Clock, what: RunRecord | TeacherCost, calibration: Calibration | None) -> float | None:
    if clock == "seconds":
        return what.seconds
    if clock == "flops":
        return what.flops
    return _calibrated(what.steps, calibration)


def _calibrated(steps: Mapping[str, int], calibration: Calibration | None) -> float | None:
    if calibration is None or not steps or not steps.keys() <= calibration.kinds.keys():
        return None
    return sum(number * calibration.kinds[kind].seconds for kind, number in steps.items())
