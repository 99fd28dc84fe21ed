"""The verdict: every arm against the baseline, on every clock that the race has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from headstart.race.statistics.cells import Cells, FloatArray, by_cost, gather, orientation
from headstart.race.statistics.costs import CLOCKS, available, teacher_cost
from headstart.race.statistics.interval import gain_margin, speedup_ends
from headstart.race.statistics.more_seeds import more_seeds
from headstart.race.statistics.noise import Noise, pooled_noise
from headstart.race.statistics.overlap import overlap_margin, overlap_speedup
from headstart.race.statistics.speedup import Comparison, compare
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
    - The overlap speed-up is the geometric mean of the speed-ups to all qualities that both curves reach.
    - The intervals come from the noise between seeds, pooled over all arm x budget cells (`noise.Noise`,
      `interval.speedup_ends`), with `b_ref` as given; the points of one training, in a cyclic race, may err alike.
      The lower end of a speed-up is 0 where the arm may never reach `q*`. Where it surely does not, the upper end is as
      if it did right after its largest cost. Where it may start above `q*` there is no upper bound: `high` is None
      beside a `low`.
    - One seed: no interval (both None).
    - The verdict is `faster` where the interval lies above 1, `slower` where it lies below, else `not resolved`. Of
      arms that are no different from the baseline at most about 5 in 100 are called one or the other.
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
    noise = pooled_noise(record.runs, record.curve)
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
    teachers = teacher_cost(arm_runs, clock, record.calibration)
    return _result(arm_runs[0].arm, clock, baseline, by_cost(arm), noise, teachers, sign)


def _result(
    name: str,
    clock: Clock,
    baseline: Cells,
    arm: Cells,
    noise: Noise,
    teachers: float | None,
    sign: int,
) -> ArmResult:
    point = compare(baseline, arm, noise.deviation)
    baseline_cost, arm_cost = float(point.baseline_cost), _finite(point.arm_cost)
    low, high, margin = None, None, None
    if noise.freedom:
        low, high = (_finite(end) for end in speedup_ends(baseline, arm, noise, point))
        margin = float(gain_margin(baseline, arm, noise, point))
    verdict = _verdict(low, high)
    loaded, break_even = _with_teachers(baseline_cost, arm_cost, teachers)
    return ArmResult(
        arm=name,
        clock=clock,
        status=_status(point),
        verdict=verdict,
        target_quality=sign * float(point.target) + 0.0,  # no -0
        reference_budget=float(baseline.budget[point.reference]),
        baseline_cost=baseline_cost,
        arm_cost=arm_cost,
        speedup=None if arm_cost is None else _speedup(float(point.low), low, high),
        overlap_speedup=_overlap(by_cost(baseline), arm, noise),
        gain=_gain(point, margin),
        more_seeds=more_seeds(baseline, arm, noise, point) if verdict == "not resolved" else None,
        teacher_cost=teachers,
        loaded_speedup=loaded,
        break_even=break_even,
    )


def _speedup(value: float, low: float | None, high: float | None) -> Estimate:
    """The ends come back from logarithms: rounding must not carry one past the value."""
    return Estimate(
        value=value,
        low=None if low is None else min(low, value),
        high=None if high is None else max(high, value),
    )


def _overlap(baseline: Cells, arm: Cells, noise: Noise) -> Estimate | None:
    logs = _finite(overlap_speedup(baseline, arm))
    if logs is None or not noise.freedom:
        return None if logs is None else Estimate(value=math.exp(logs))
    margin = float(overlap_margin(baseline, arm, noise))
    with np.errstate(over="ignore"):  # an end that is no number is an open one
        low, high = (_finite(np.exp(end)) for end in (logs - margin, logs + margin))
    return Estimate(value=math.exp(logs), low=low, high=high)


def _gain(point: Comparison, margin: float | None) -> Estimate | None:
    gain = _finite(point.gain)
    if gain is None or margin is None:
        return None if gain is None else Estimate(value=gain)
    return Estimate(value=gain, low=gain - margin, high=gain + margin)


def _status(point: Comparison) -> Status:
    if point.at_least:
        return "at least"
    return "not reached" if np.isnan(point.arm_cost) else "reached"


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


def _finite(value: float | FloatArray) -> float | None:
    return float(value) if np.isfinite(value) else None
