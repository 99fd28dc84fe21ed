"""The order of a race with limited time, and the forecast of what still fits."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.errors import RaceError
from headstart.race import Run, plan_race, race, scheduler
from headstart.race.plan import Plan
from headstart.race.time_limit import Spent, added_budget, forecast_seconds, most_telling_first
from headstart.records import RaceRecord

BUDGETS, SEEDS = [1, 3, 7], [5, 2, 9]


def plan(**changes: Any) -> Plan:
    return plan_race(
        **{"arms": ["plain", "rival", "mine"], "budgets": BUDGETS, "seeds": SEEDS, "primary": "mine", **changes}
    )


@pytest.mark.parametrize("curve", ["separate", "cyclic"])
def test_wherever_it_is_cut_no_two_cells_differ_by_more_than_a_seed(curve: str) -> None:
    order = most_telling_first(plan(curve=curve))
    assert sorted(order) == sorted(plan().runs)
    compared = [run for run in order if run.arm != "rival"]
    assert order[: len(compared)] == compared, "the comparison comes before the other arms"
    for end in range(len(compared) + 1):
        cells = Counter((run.arm, run.budget) for run in compared[:end])
        counts = [cells[arm, budget] for arm in ("plain", "mine") for budget in BUDGETS]
        assert max(counts) - min(counts) <= 1


def test_the_first_seed_goes_up_and_the_others_go_down() -> None:
    order = most_telling_first(plan())
    assert [run.budget for run in order[:18:2]] == [1, 3, 7, 7, 3, 1, 7, 3, 1]
    assert [run.seed for run in order[:18:6]] == SEEDS
    assert all(
        {one.arm, other.arm} == {"plain", "mine"} for one, other in zip(order[:18:2], order[1:18:2], strict=True)
    )


def test_a_cyclic_race_goes_up_with_every_seed() -> None:
    order = most_telling_first(plan(curve="cyclic"))
    for run in order:
        assert all(
            order.index(run._replace(budget=shorter)) < order.index(run) for shorter in BUDGETS if shorter < run.budget
        )


def test_a_cyclic_run_adds_what_is_new() -> None:
    finished = [Run("mine", 1, 5), Run("mine", 3, 5), Run("plain", 3, 5), Run("mine", 3, 2)]
    added = {run: added_budget(run, finished, plan(curve="cyclic")) for run in plan().runs}
    assert added[Run("mine", 7, 5)] == added[Run("mine", 7, 2)] == 4
    assert added[Run("rival", 7, 5)] == 7 and added[Run("mine", 1, 2)] == 1
    assert added_budget(Run("mine", 7, 5), finished, plan()) == 7


def test_forecasts() -> None:
    spent = [Spent("plain", 1, 12), Spent("plain", 3, 28), Spent("mine", 1, 20)]
    assert forecast_seconds([], "plain", 1) is None
    assert forecast_seconds(spent, "plain", 3) == 28, "as long as its like"
    assert forecast_seconds(spent, "plain", 7) == pytest.approx(7 * 10), "at the arm's rate"
    assert forecast_seconds(spent, "rival", 7) == pytest.approx(7 * 12), "at the rate of all"
    assert forecast_seconds([*spent, Spent("plain", 3, 30)], "plain", 3) == 29


class Timed:
    """A training that takes 10 seconds for each unit of the budget, of which the race knows only by the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, quality: dict[str, float] | None = None) -> None:
        self.now, self.calls, self._quality = 0.0, list[Run](), quality or {}
        monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: self.now))

    def __call__(self, arm: str, budget: float, seed: int) -> dict[str, float]:
        self.calls.append(Run(arm, budget, seed))
        self.now += 10 * budget
        return {"quality": self._quality.get(arm, 0.5) + 1e-3 * seed, "seconds": 10 * budget}


def go(training: Timed, folder: Path, seconds: float | None, **changes: Any) -> RaceRecord:
    hours = None if seconds is None else seconds / 3600
    given = {"arms": ["plain", "mine"], "budgets": [1, 2, 4], "seeds": [0, 1], "hours": hours, **changes}
    return race(training, folder=folder, **given)


def test_nothing_begins_that_would_not_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Timed(monkeypatch)
    record = go(training, tmp_path, 200)
    # A seed of both arms takes 140 s; then of 60 s a run of 40 s, and not a second one.
    assert (
        training.now == 180
        and training.calls == most_telling_first(plan_race(["plain", "mine"], [1, 2, 4], [0, 1]))[:7]
    )
    assert record.cut_short and len(record.runs) == 7


def test_the_next_start_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Timed(monkeypatch)
    go(training, tmp_path, 100)
    before = len(training.calls)
    record = go(training, tmp_path, 1000)
    assert 0 < before < 12 and len(training.calls) == 12 == len(set(training.calls))
    assert not record.cut_short and len(record.runs) == 12
    assert go(training, tmp_path, None) == record


def test_what_is_run_does_not_depend_on_how_well_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name, gain in (("same", 0.0), ("better", 0.3), ("worse", -0.3)):
        qualities = {"plain": 0.5, "mine": 0.5 + gain}
        training = Timed(monkeypatch, qualities)
        go(training, tmp_path / name, 230)
        calls.append(training.calls)
    assert calls[0] == calls[1] == calls[2] and len(calls[0]) < 12


@pytest.mark.parametrize("workers", [1, 2])
def test_without_time_nothing_is_run(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Timed(monkeypatch)
    record = go(training, tmp_path, 0, workers=workers)
    assert training.calls == [] and record.runs == [] and record.cut_short
    with pytest.raises(RaceError, match=r"hours=-1\.0 is no time to race in; give a number above 0"):
        go(training, tmp_path, -3600)


def test_a_cyclic_race_pays_for_what_is_new_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class GoingOn(Timed):
        def __call__(self, arm: str, budget: float, seed: int) -> dict[str, float]:
            self.now -= 10 * max((run.budget for run in self.calls if (run.arm, run.seed) == (arm, seed)), default=0)
            return super().__call__(arm, budget, seed)

    training = GoingOn(monkeypatch)
    record = go(training, tmp_path, 145, budgets=BUDGETS, seeds=[0], curve="cyclic")
    assert training.now == 140 and not record.cut_short and record.curve == "cyclic"


@pytest.mark.parametrize("workers", [1, 3, 9])
def test_a_cyclic_run_waits_for_the_shorter_one(workers: int, tmp_path: Path) -> None:
    finished: set[Run] = set()

    def training(arm: str, budget: float, seed: int) -> dict[str, float]:
        assert {Run(arm, shorter, seed) for shorter in BUDGETS if shorter < budget} <= finished
        time.sleep(0.002 * (1 + seed))
        finished.add(Run(arm, budget, seed))
        return {"quality": 0.5, "seconds": budget}

    arms = ["plain", "mine"]
    record = race(training, folder=tmp_path, arms=arms, budgets=BUDGETS, seeds=SEEDS, curve="cyclic", workers=workers)
    assert record.failures == [] and len(record.runs) == 18


def test_a_cyclic_run_does_not_wait_for_one_that_failed(tmp_path: Path) -> None:
    def training(arm: str, budget: float, seed: int) -> dict[str, float]:
        if budget == 3:
            raise RaceError("no luck")
        return {"quality": 0.5, "seconds": budget}

    record = race(
        training, folder=tmp_path, arms=["plain", "mine"], budgets=BUDGETS, seeds=[0], curve="cyclic", workers=2
    )
    assert [run.budget for run in record.runs if run.arm == "mine"] == [1, 7] and len(record.failures) == 2
