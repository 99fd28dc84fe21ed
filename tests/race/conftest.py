"""Races with a known answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest

from headstart.records import Arm, RaceRecord, RunRecord

Quality = Callable[[float, int], float]


class MakeRace(Protocol):
    """Build a race: for each arm its quality as a function of (budget, seed), and its seconds per unit of budget."""

    def __call__(
        self,
        quality: dict[str, Quality],
        budgets: Sequence[float] = ...,
        seeds: Sequence[int] = ...,
        pace: dict[str, float] | None = ...,
        run: dict[str, Any] | None = ...,
        **race: Any,
    ) -> RaceRecord: ...


@pytest.fixture
def make_race() -> MakeRace:
    """A factory of races, not judged yet; the first arm is the baseline, the second the primary one."""

    def make(
        quality: dict[str, Quality],
        budgets: Sequence[float] = (1, 2, 4, 8),
        seeds: Sequence[int] = (0,),
        pace: dict[str, float] | None = None,
        run: dict[str, Any] | None = None,
        **race: Any,
    ) -> RaceRecord:
        runs = [
            RunRecord(
                arm=arm,
                budget=budget,
                seed=seed,
                quality=of(budget, seed),
                seconds=budget * (pace or {}).get(arm, 1.0),
                **(run or {}),
            )
            for arm, of in quality.items()
            for budget in budgets
            for seed in seeds
        ]
        names = list(quality)
        return RaceRecord(
            arms=[Arm(name=name) for name in names],
            baseline=names[0],
            primary=names[1],
            budgets=list(budgets),
            seeds=list(seeds),
            runs=runs,
            **race,
        )

    return make


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing written here has to survive a power cut."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
