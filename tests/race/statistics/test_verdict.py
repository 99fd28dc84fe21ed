"""Judged races whose answer is known in closed form."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from headstart.errors import RaceError
from headstart.race import judge
from headstart.race.statistics.noise import pooled_noise
from headstart.records import ArmResult, Calibration, Clock, Estimate, RaceRecord, RunRecord, StepTime, TeacherCost
from tests.race.conftest import MakeRace, Quality


def _log(factor: float, above: float = 0.0, spread: float = 0.0) -> Quality:
    """Quality that rises with the log of the budget: linear in log cost, so that curves are read without error."""
    return lambda budget, seed: math.log(factor * budget) + above + spread * (seed - 1)


def _value(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.value


def _only(record: RaceRecord, clock: Clock = "seconds", arm: str | None = None) -> ArmResult:
    found = [result for result in judge(record).results if result.clock == clock and arm in (None, result.arm)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_exact_speedup(make_race: MakeRace, lower_is_better: bool) -> None:
    """An arm that learns 3 times as fast per budget at 1.2 times the price is 2.5 times as fast."""
    sign = -1 if lower_is_better else 1
    race = make_race(
        {"plain": lambda b, s: sign * math.log(b), "fast": lambda b, s: sign * math.log(3 * b)},
        pace={"plain": 2.0, "fast": 2.4},
        run={"higher_is_better": not lower_is_better},
    )
    result = _only(race)
    assert (result.status, result.reference_budget) == ("reached", 8.0)
    assert result.target_quality == pytest.approx(sign * math.log(8))
    assert result.baseline_cost == 16.0
    assert result.arm_cost == pytest.approx(16.0 / 2.5)
    assert _value(result.speedup) == pytest.approx(2.5)
    assert _value(result.gain) == pytest.approx(math.log(2.5)), "positive is better, whatever the metric's direction"


def test_one_seed_gives_no_interval_and_no_verdict(make_race: MakeRace) -> None:
    result = _only(make_race({"plain": _log(1), "fast": _log(3)}))
    assert result.speedup is not None
    assert result.gain is not None
    assert (result.speedup.low, result.speedup.high, result.gain.low, result.gain.high) == (None, None, None, None)
    assert result.verdict == "not resolved"


def test_seeds_without_noise_give_a_point_interval(make_race: MakeRace) -> None:
    result = _only(make_race({"plain": _log(1), "fast": _log(3)}, seeds=[0, 1]))
    assert result.speedup is not None
    assert result.speedup.low == result.speedup.high == result.speedup.value
    assert result.verdict == "faster"


def test_equal_arms_are_not_resolved_to_the_last_bit(make_race: MakeRace) -> None:
    """Curves that are equal, with plateau and dip, must not be told apart by rounding."""
    bumpy = {1.0: 0.1, 2.0: 0.7, 4.0: 0.6, 8.0: 0.9, 16.0: 0.9}
    same = {name: lambda b, s: bumpy[b] for name in ("plain", "same")}
    result = _only(make_race(same, budgets=list(bumpy), seeds=[0, 1, 2], pace={"plain": 0.3, "same": 0.3}))
    assert result.speedup == Estimate(value=1.0, low=1.0, high=1.0)
    assert (result.status, result.verdict, _value(result.gain)) == ("reached", "not resolved", 0.0)


def test_at_least(make_race: MakeRace) -> None:
    result = _only(make_race({"plain": _log(1), "strong": _log(1, above=5)}, seeds=[0, 1]))
    assert (result.status, result.verdict) == ("at least", "faster")
    assert result.speedup == Estimate(value=8.0, low=8.0, high=None), "open above: it has no upper bound"
    assert result.arm_cost == 1.0


def test_not_reached(make_race: MakeRace) -> None:
    result = _only(make_race({"plain": _log(1), "weak": _log(1, above=-5)}, seeds=[0, 1]))
    assert (result.status, result.verdict) == ("not reached", "slower")
    assert (result.speedup, result.arm_cost, result.loaded_speedup) == (None, None, None)
    assert _value(result.gain) == pytest.approx(-5)


def test_not_reached_is_not_slower_where_the_arm_had_less_time(make_race: MakeRace) -> None:
    """The arm costs half as much: q* out of its reach leaves speed-ups up to 2 open."""
    race = make_race({"plain": _log(1), "short": _log(1, above=-0.1)}, seeds=[0, 1], pace={"short": 0.5})
    result = _only(race)
    assert (result.status, result.verdict) == ("not reached", "not resolved")


def test_no_data(make_race: MakeRace) -> None:
    race = make_race({"plain": _log(1), "failed": _log(1), "fast": _log(2)})
    race = race.model_copy(update={"runs": [run for run in race.runs if run.arm != "failed"]})
    results = {result.arm: result for result in judge(race).results}
    assert results["failed"].status == "no data"
    assert _value(results["fast"].speedup) == pytest.approx(2.0)
    nothing = judge(race.model_copy(update={"runs": []}))
    assert [result.status for result in nothing.results] == ["no data", "no data"]
    assert nothing.headline_clock == "seconds"


def test_reference_budget_is_the_smallest_within_one_pooled_standard_error(make_race: MakeRace) -> None:
    spread = 0.03
    means = {1.0: 0.5, 2.0: 0.9 - 0.9 * spread / 3**0.5, 4.0: 0.9}
    quality = {name: lambda b, s: means[b] + spread * (s - 1) for name in ("plain", "same")}
    race = make_race(quality, budgets=list(means), seeds=[0, 1, 2])
    assert pooled_noise(race.runs).deviation == pytest.approx(spread)
    result = _only(race)
    assert result.reference_budget == 2.0
    assert result.target_quality == pytest.approx(means[2.0])
    means[2.0] = 0.9 - 1.1 * spread / 3**0.5
    assert _only(make_race(quality, budgets=list(means), seeds=[0, 1, 2])).reference_budget == 4.0


def test_arm_curve_is_made_monotone(make_race: MakeRace) -> None:
    """A lucky early point does not count alone: 0.9 and then 0.5 is twice 0.7."""
    arm = {1.0: 0.0, 2.0: 0.9, 4.0: 0.5, 8.0: 1.0}
    race = make_race({"plain": lambda b, s: b / 10, "bumpy": lambda b, s: arm[b]}, budgets=list(arm))
    result = _only(race)
    assert result.arm_cost == pytest.approx(4 * 2 ** ((0.8 - 0.7) / (1.0 - 0.7)))


def test_failed_runs_shrink_their_cell(make_race: MakeRace) -> None:
    race = make_race({"plain": _log(1, spread=0.1), "fast": _log(2, spread=0.1)}, seeds=[0, 1, 2])
    lost = {("plain", 8.0, 0), ("plain", 8.0, 1), ("plain", 8.0, 2), ("plain", 4.0, 2)}
    race = race.model_copy(update={"runs": [r for r in race.runs if (r.arm, r.budget, r.seed) not in lost]})
    result = _only(race)
    assert result.reference_budget == 4.0, "a cell without runs is dropped"
    assert result.target_quality == pytest.approx(math.log(4) - 0.05), "the mean of the two runs that are left"


def test_pooled_noise_against_the_standard_library() -> None:
    cells = {("a", 1.0): [0.1, 0.3], ("a", 2.0): [0.5], ("b", 1.0): [0.2, 0.3, 0.7]}
    runs = [
        RunRecord(arm=arm, budget=budget, quality=quality, seconds=1)
        for (arm, budget), qualities in cells.items()
        for quality in qualities
    ]
    squares = [(len(cell) - 1) * statistics.variance(cell) for cell in cells.values() if len(cell) > 1]
    noise = pooled_noise(runs)
    assert noise.freedom == 3
    assert noise.deviation == pytest.approx(math.sqrt(sum(squares) / 3))


def test_clocks(make_race: MakeRace) -> None:
    """Raw seconds say 1, calibrated step times 1.6, FLOPs 4: each clock is judged for itself."""
    race = make_race({"plain": _log(1), "fast": _log(4)}, pace={"plain": 1.0, "fast": 4.0})
    steps = {"plain": "plain", "fast": "distilling"}
    runs = [
        run.model_copy(update={"steps": {steps[run.arm]: int(100 * run.budget)}, "flops": run.budget})
        for run in race.runs
    ]
    calibration = Calibration(kinds={"plain": StepTime(seconds=0.02), "distilling": StepTime(seconds=0.05)})
    judged = judge(race.model_copy(update={"runs": runs, "calibration": calibration}))
    found = {result.clock: _value(result.speedup) for result in judged.results}
    assert found == pytest.approx({"calibrated": 1.6, "seconds": 1.0, "flops": 4.0})
    assert judged.headline_clock == "calibrated"

    partial = judge(judged.model_copy(update={"calibration": Calibration(kinds={"plain": StepTime(seconds=0.02)})}))
    assert [result.clock for result in partial.results] == ["seconds", "flops"]
    assert partial.headline_clock == "seconds"


def test_cost_columns(make_race: MakeRace) -> None:
    teacher = TeacherCost(name="old", seconds=10.0)
    race = make_race({"plain": _log(1), "fast": _log(2)}, run={"teachers": [teacher]})
    result = _only(race)
    assert result.teacher_cost == 10.0
    assert result.loaded_speedup == pytest.approx(8 / (4 + 10))
    assert result.break_even == math.ceil(10 / (8 - 4))
    slow = _only(make_race({"plain": _log(1), "slow": _log(2)}, pace={"slow": 2.0}, run={"teachers": [teacher]}))
    assert slow.break_even is None, "what saves nothing never pays for its teachers"
    alone = _only(make_race({"plain": _log(1), "fast": _log(2)}))
    assert (alone.teacher_cost, alone.loaded_speedup, alone.break_even) == (None, None, None)


def test_gain_needs_the_arm_to_have_something_by_then(make_race: MakeRace) -> None:
    result = _only(make_race({"plain": _log(1), "dear": _log(9)}, pace={"dear": 20.0}))
    assert result.gain is None


def test_runs_of_different_metrics_are_refused(make_race: MakeRace) -> None:
    race = make_race({"plain": _log(1), "fast": _log(2)})
    runs = [race.runs[0].model_copy(update={"metric": "loss", "higher_is_better": False}), *race.runs[1:]]
    with pytest.raises(RaceError, match="loss, lower is better; quality, higher is better"):
        judge(race.model_copy(update={"runs": runs}))


def test_the_same_race_gives_the_same_interval(make_race: MakeRace) -> None:
    generator = np.random.default_rng(3)
    noise = {seed: float(generator.normal(scale=0.05)) for seed in range(3)}
    race = make_race(
        {"plain": lambda b, s: math.log(b) + noise[s], "fast": lambda b, s: math.log(2 * b) + noise[s]}, seeds=[0, 1, 2]
    )
    first = judge(race)
    assert judge(first).results == first.results
    speedup = first.results[0].speedup
    assert speedup is not None
    assert speedup.low is not None
    assert speedup.high is not None
    assert 1 < speedup.low < speedup.value < speedup.high


def test_overlap_speedup_beside_the_one_at_the_best(make_race: MakeRace) -> None:
    race = make_race({"plain": _log(1, spread=0.01), "fast": _log(3, spread=0.01)}, seeds=[0, 1, 2], pace={"fast": 1.5})
    overlap = _only(race).overlap_speedup
    assert overlap is not None
    assert overlap.low is not None
    assert overlap.high is not None
    assert overlap.value == pytest.approx(2.0)
    assert 1.9 < overlap.low < 2.0 < overlap.high < 2.1
    one_seed = _only(make_race({"plain": _log(1), "fast": _log(3)})).overlap_speedup
    assert _value(one_seed) == pytest.approx(3.0)
    assert one_seed is not None
    assert (one_seed.low, one_seed.high) == (None, None)
    assert _only(make_race({"plain": _log(1), "strong": _log(1, above=9)})).overlap_speedup is None


def test_more_seeds_where_the_verdict_is_open(make_race: MakeRace) -> None:
    race = make_race({"plain": _log(1, spread=0.3), "fast": _log(1.2, spread=0.3)}, seeds=[0, 1, 2])
    result = _only(race)
    assert result.verdict == "not resolved"
    assert result.more_seeds is not None
    assert result.more_seeds > 0
    far = _only(make_race({"plain": _log(1, spread=0.1), "fast": _log(4, spread=0.1)}, seeds=[0, 1, 2]))
    assert (far.verdict, far.more_seeds) == ("faster", None)
