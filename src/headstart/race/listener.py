"""What a race tells while it runs, and how long it may still take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from headstart.race.plan import Run
from headstart.records import Failure, RunRecord


class Listener(Protocol):
    """Told what a race does."""

    def run_started(self, arm: str, budget: float, seed: int, index: int, total: int) -> None:
        """A run starts: the `index`-th (from 1) of the race's `total`, runs that had finished before counted in."""
        ...

    def run_finished(self, record: RunRecord) -> None:
        """A run has finished, and its record is saved."""
        ...

    def run_failed(self, failure: Failure) -> None:
        """A run has failed; the race goes on with the next."""
        ...

    def calibrating(self) -> None:
        """All runs are through, and the step times are being calibrated."""
        ...


class Silent:
    """A listener that ignores everything; derive from it to hear only some of it."""

    def run_started(self, arm: str, budget: float, seed: int, index: int, total: int) -> None:
        """Ignored."""

    def run_finished(self, record: RunRecord) -> None:
        """Ignored."""

    def run_failed(self, failure: Failure) -> None:
        """Ignored."""

    def calibrating(self) -> None:
        """Ignored."""


def time_left(finished: Sequence[RunRecord], pending: Iterable[Run]) -> float | None:
    """Estimate how long the runs that are still to do will train.

    An arm's rate is its finished runs' seconds over their budgets; an arm without finished runs takes the rate of all.

    Args:
        finished: Finished runs.
        pending: The runs still to do, one under way included.

    Returns:
        Seconds of training; None where nothing has finished yet. Start-up and evaluation come on top.

    Example:
        >>> finished = [RunRecord(arm="baseline", budget=2, quality=0.9, seconds=20)]
        >>> time_left(finished, [Run("baseline", 4, 0), Run("distill", 1, 0)])
        50.0
    """
    if not finished:
        return None
    overall = _rate(finished)
    rates = {arm: _rate([run for run in finished if run.arm == arm]) for arm in {run.arm for run in finished}}
    return sum(run.budget * rates.get(run.arm, overall) for run in pending)


def _rate(runs: Sequence[RunRecord]) -> float:
    return sum(run.seconds for run in runs) / sum(run.budget for run in runs)
