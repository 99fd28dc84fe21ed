"""The verdict: every arm against the baseline, on every clock that the race has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from headstart.race.cells import Cells, Noise, gather, orientation, pooled_noise
from headstart.race.costs import CLOCKS, available, teacher_cost
from headstart.race.interval import ends, redraw
from headstart.race.speedup import Comparison, compare
from headstart.records import ArmResult, Clock, Estimate, RaceRecord, RunRecord, Status, Verdict


def judge(record: RaceRecord) -> RaceRecord:
    """Compare every arm with the baseline, on every clock that knows the runs of both.

    - `b_ref` is the smallest baseline budget whose mean quality is within one pooled standard error (pooled deviation
      / sqrt(n)) of the best baseline budget; `q*` is the baseline's mean quality there.
    - The speed-up is the baseline's mean cost at `b_ref` over the cost at which the arm's mean curve, made monotone and
      linear in log cost, reaches `q*`. Nothing is extrapolated: an arm above `q*` at its smallest cost has a speed-up
      of `at least`, one never there is `not reached`.
    - The gain at equal cost is the arm's quality at that cost of the baseline, less `q*`. Past the arm's largest cost
      it is the quality that it had there; before its smallest cost there is no gain to tell.
    - The interval has the 2.5 and 97.5 percentiles of 4000 redraws of all cell means, everything recomputed, with the
      noise between seeds pooled over all arm x budget cells. The same race gives the same interval.
    - A redraw in which the arm never reaches `q*` counts as 0 at the lower end, so `low == 0` says that the lower end
      rests on such redraws. At the upper end it counts as if the arm reached `q*` right after its largest cost.
    - A redraw in which the arm starts above `q*` has no upper bound. Where the upper end rests on those, `high` is None
      beside a `low`.
    - One seed: no interval (both None).
    - The verdict is `faster` where the interval lies above 1, `slower` where it lies below, else `not resolved`.
    - Failed runs are left out: their cell counts fewer runs, and a cell without any is dropped.

    Args:
        record: A race, finished or not; earlier `results` are replaced.

    Returns:
        The race with `headline_clock` (`calibrated` where it is known for all runs of the race, else `seconds`) and
        `results`: for each arm the clocks `calibrated`, `seconds` and `flops`, as far as they are known for all runs of
        the arm and of the baseline. An arm that cannot be compared has one result, with the status `no data`.

    Raises:
        RaceError: The runs do not measure the same metric.

    Example:
        >>> from headstart.records import Arm
        >>> runs = [RunRecord(arm=arm, budget=budget, seconds=budget, quality=quality) for arm, budget, quality in
        ...         [("plain", 1, 0.5), ("plain", 4, 0.75), ("taught", 1, 0.5), ("taught", 4, 1.0)]]
        >>> race = RaceRecord(arms=[Arm(name="plain"), Arm(name="taught")], baseline="plain", primary="taught",
        ...                   budgets=[1, 4], seeds=[0], runs=runs)
        >>> result = judge(race).results[0]
        >>> result.clock, result.status, result.speedup.value, result.verdict
        ('seconds', 'reached', 2.0, 'not resolved')
    """
    sign = orientation(record.runs)
    noise = pooled_noise(record.runs)
    runs = {arm.name: [run for run in record.runs if run.arm == arm.name] for arm in record.arms}
    calibrated = bool(record.runs) and available(record.runs, "calibrated", record.calibration)
    headline: Clock = "calibrated" if calibrated else "seconds"
    results: list[ArmResult] = []
    for arm in record.arms:
        if arm.name == record.baseline:
            continue
        found = [_on_clock(record, clock, runs[record.baseline], runs[arm.name], sign, noise) for clock in CLOCKS]
        known = [result for result in found if result is not None]
        nothing = ArmResult(arm=arm.name, clock=headline, status="no data", verdict="not resolved")
        results.extend(known or [nothing])
    return record.model_copy(update={"results": results, "headline_clock": headline})


def _on_clock(
    record: RaceRecord,
    clock: Clock,
    baseline_runs: Sequence[RunRecord],
    arm_runs: Sequence[RunRecord],
    sign: int,
    noise: Noise,
) -> ArmResult | None:
    baseline = gather(baseline_runs, clock, record.calibration, sign)
    arm = gather(arm_runs, clock, record.calibration, sign)
    if baseline is None or arm is None:
        return None
    point = compare(baseline, arm, baseline.quality[None], arm.quality[None], np.array([noise.deviation]))
    drawn = redraw(baseline, arm, noise)
    teachers = teacher_cost(arm_runs, clock, record.calibration)
    return _result(arm_runs[0].arm, clock, baseline, point, drawn, teachers, sign)


def _result(
    name: str,
    clock: Clock,
    baseline: Cells,
    point: Comparison,
    drawn: Comparison | None,
    teachers: float | None,
    sign: int,
) -> ArmResult:
    baseline_cost, arm_cost = float(point.baseline_cost[0]), _finite(point.arm_cost[0])
    low, high = ends(drawn.low, drawn.high) if drawn is not None else (None, None)
    gain_ends = ends(drawn.gain, drawn.gain) if drawn is not None else (None, None)
    gain = _finite(point.gain[0])
    loaded, break_even = _with_teachers(baseline_cost, arm_cost, teachers)
    return ArmResult(
        arm=name,
        clock=clock,
        status=_status(point),
        verdict=_verdict(low, high),
        target_quality=sign * float(point.target[0]),
        reference_budget=float(baseline.budget[point.reference[0]]),
        baseline_cost=baseline_cost,
        arm_cost=arm_cost,
        speedup=None if arm_cost is None else Estimate(value=float(point.low[0]), low=low, high=high),
        gain=None if gain is None else Estimate(value=gain, low=gain_ends[0], high=gain_ends[1]),
        teacher_cost=teachers,
        loaded_speedup=loaded,
        break_even=break_even,
    )


def _status(point: Comparison) -> Status:
    if point.at_least[0]:
        return "at least"
    return "not reached" if np.isnan(point.arm_cost[0]) else "reached"


def _verdict(low: float | None, high: float | None) -> Verdict:
    if low is not None and low > 1:
        return "faster"
    return "slower" if high is not None and high < 1 else "not resolved"


def _with_teachers(
    baseline_cost: float, arm_cost: float | None, teachers: float | None
) -> tuple[float | None, int | None]:
    """The loaded speed-up, and the number of trainings after which the teachers have paid for themselves."""
    if arm_cost is None or teachers is None:
        return None, None
    saved = baseline_cost - arm_cost
    return baseline_cost / (arm_cost + teachers), math.ceil(teachers / saved) if saved > 0 else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
