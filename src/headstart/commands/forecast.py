"""How long the runs of a race will still take, from what those before them took and what is under way has done."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from headstart.race import Run, run_folder
from headstart.race.run_names import record_path

METRICS = "metrics.jsonl"
_TAIL = 4096  # bytes; a line of metrics is far shorter


class Done(NamedTuple):
    """A run that has ended: seconds of training, and seconds in all, with its start and its evaluation."""

    run: Run
    training: float
    whole: float


class Part(NamedTuple):
    """How far a run under way has got: the share of its steps, and the seconds of training that they took."""

    share: float
    seconds: float


def so_far(folder: Path, run: Run) -> Part | None:
    """How far a run under way has got, as the last line of its `metrics.jsonl` tells.

    Returns:
        None where it has told nothing yet: the race's programs need not write such a file.
    """
    try:
        with (run_folder(folder, *run) / METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            last = json.loads(file.read().splitlines()[-1])
        return Part(min(1.0, last["step"] / last["total_steps"]), float(last["seconds"]))
    except (OSError, ValueError, IndexError, KeyError, TypeError, ZeroDivisionError):
        return None  # not there yet, half written, or another program's


def seconds_left(
    done: Sequence[Done], under_way: Mapping[Run, Part | None], pending: Iterable[Run], workers: int
) -> float | None:
    """Estimate how long a race will still run.

    A run trains at the rate of its arm, seconds over budget of all that this has trained so far, or of all arms where
    it has trained nothing. What a run takes beside its training is the mean over those that have ended.

    Args:
        done: Runs that have ended.
        under_way: Runs under way, and how far each of them is.
        pending: Runs that are still to begin.
        workers: Runs that go on at once.

    Returns:
        Seconds; None where no run has told anything yet.

    Example:
        >>> one, two = Run("baseline", 4, 0), Run("baseline", 8, 0)
        >>> seconds_left([], {one: Part(share=0.25, seconds=5)}, [two], workers=1)
        55.0
    """
    trained = [(run, 1.0, seconds) for run, seconds, _ in done]
    trained += [(run, *part) for run, part in under_way.items() if part is not None and part.share > 0]
    if not trained:
        return None
    overall = _rate(trained)
    rates = {arm: _rate([each for each in trained if each[0].arm == arm]) for arm in {run.arm for run, *_ in trained}}
    beside = sum(max(0.0, whole - training) for _, training, whole in done) / len(done) if done else 0.0
    shares = [(run, 1.0) for run in pending]
    shares += [(run, 1.0 - (part.share if part else 0.0)) for run, part in under_way.items()]
    ahead = [share * run.budget * rates.get(run.arm, overall) + beside for run, share in shares]
    return max([sum(ahead) / workers, *ahead]) if ahead else 0.0


class Outlook:
    """A race as it is seen from outside: what has ended, what is under way, what is still to begin.

    Args:
        plan: The race's runs; those that an earlier start has finished are left out.
        workers: How many of them go on at once.
        folder: The race folder, where runs under way tell how far they are; None: they do not.
    """

    def __init__(self, plan: Iterable[Run], workers: int, folder: Path | None) -> None:
        self._workers, self._folder = workers, folder
        self._pending = {run for run in plan if folder is None or not record_path(folder, *run).exists()}
        self._under_way: dict[Run, float] = {}
        self._done: list[Done] = []

    def started(self, run: Run) -> None:
        """A run begins."""
        self._pending.discard(run)
        self._under_way[run] = time.monotonic()

    def ended(self, run: Run, training: float | None) -> None:
        """A run has ended, after so many seconds of training; None: it has failed."""
        begin = self._under_way.pop(run, None)
        if training is not None:
            whole = training if begin is None else time.monotonic() - begin
            self._done.append(Done(run, training, whole))

    def left(self) -> float | None:
        """Seconds, as `seconds_left` estimates them; None where nothing is under way, or none has told anything yet."""
        running = list(self._under_way)
        if not running:
            return None
        parts = {run: so_far(self._folder, run) if self._folder is not None else None for run in running}
        return seconds_left(self._done, parts, self._pending, self._workers)


def _rate(trained: Sequence[tuple[Run, float, float]]) -> float:
    """Seconds of training for a unit of budget."""
    return sum(seconds for _, _, seconds in trained) / sum(share * run.budget for run, share, _ in trained)
