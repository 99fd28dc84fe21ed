"""The runs of a race, done one after the other or side by side, until none is left or the time is up."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headstart.errors import HeadstartError, Preempted
from headstart.race.book import Book
from headstart.race.listener import Listener
from headstart.race.one_run import RaceFunction, Stoppable, run_once
from headstart.race.plan import Run
from headstart.race.run_names import run_folder
from headstart.race.time_limit import Spent, added_budget, forecast_seconds, most_telling_first
from headstart.records import Failure, RaceRecord, RunRecord


class Work:
    """What is still to be run; book and listener see one thing at a time, whatever the number of workers.

    Args:
        function: Trains.
        book: What the race has so far.
        record: The race without its runs.
        listener: Told what happens.
        hours: How long from now on runs may go on; None: without end. Those that decide most then come first.
    """

    def __init__(
        self, function: RaceFunction, book: Book, record: RaceRecord, listener: Listener, hours: float | None = None
    ) -> None:
        self._function, self._book, self._record, self._listener = function, book, record, listener
        self._until = None if hours is None else time.monotonic() + 3600 * hours
        order = book.plan.runs if hours is None else most_telling_first(book.plan)
        self._pending = [run for run in order if run not in book.finished]
        self._under_way: set[Run] = set()
        self._spent = [Spent(run.arm, run.budget, done.seconds) for run, done in book.finished.items()]
        self._left_out: list[Run] = []
        self._changed = threading.Condition()

    def go(self, workers: int) -> list[Run]:
        """Run what is missing.

        Returns:
            The runs for which there was no time.
        """
        if workers == 1:  # not in a thread, so that an interrupt ends the run itself
            while self._pending:
                self._one()
            return self._left_out
        pool = ThreadPoolExecutor(workers)
        try:
            for job in [pool.submit(self._one) for _ in range(len(self._pending))]:
                job.result()
        except BaseException:
            self._stop()
            if isinstance(self._function, Stoppable):
                self._function.stop()
            raise
        finally:
            self._stop()
            pool.shutdown(cancel_futures=True)
        return self._left_out

    def _one(self) -> None:
        """The next run, once one may begin; nothing where none is left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending or self._next() is not None)
            run = self._next()
            if run is None:
                return
            budget = added_budget(run, self._book.finished, self._book.plan)
            if not self._fits(run.arm, budget):
                self._left_out = self._stop()
                return
            self._begin(run)
        begin = time.monotonic()
        outcome: RunRecord | Failure | None = None
        try:
            outcome = _attempt(self._function, self._book, run)
        finally:
            with self._changed:
                self._under_way.remove(run)
                self._changed.notify_all()
                if outcome is not None:
                    self._end(run, outcome, Spent(run.arm, budget, time.monotonic() - begin))

    def _next(self) -> Run | None:
        """The first run that may begin: in a cyclic race one waits for the shorter one from which it goes on."""
        waits = self._book.plan.curve == "cyclic"
        busy = {(run.arm, run.seed) for run in self._under_way if waits}
        return next((run for run in self._pending if (run.arm, run.seed) not in busy), None)

    def _fits(self, arm: str, budget: float) -> bool:
        if self._until is None:
            return True
        return time.monotonic() + (forecast_seconds(self._spent, arm, budget) or 0.0) < self._until

    def _begin(self, run: Run) -> None:
        started = len(self._book.finished) + len(self._book.failures) + len(self._under_way) + 1
        self._pending.remove(run)
        self._under_way.add(run)
        self._listener.run_started(*run, started, len(self._book.plan.runs))

    def _end(self, run: Run, outcome: RunRecord | Failure, spent: Spent) -> None:
        if isinstance(outcome, Failure):
            self._book.failures.append(outcome)
            self._listener.run_failed(outcome)
        else:
            self._book.finished[run] = outcome
            self._spent.append(spent)
            self._listener.run_finished(outcome)
        self._book.save(self._record)

    def _stop(self) -> list[Run]:
        """Let no further run begin; those that are left."""
        with self._changed:
            left, self._pending = self._pending, []
            self._changed.notify_all()
            return left


def _attempt(function: RaceFunction, book: Book, run: Run) -> RunRecord | Failure:
    """Run once; whatever goes wrong in it is this run's failure alone."""
    details = run_folder(book.folder, *run) / "traceback.txt"
    try:
        details.unlink(missing_ok=True)
        like = next(iter(book.finished.values()), None)
        return run_once(function, book.folder, run, book.made_of[run.arm], like=like)
    except Preempted:  # no fault of the run, which goes on with the race's next start
        raise
    except HeadstartError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error} (traceback in {details})"
        _leave(traceback.format_exc(), details)
    return Failure(arm=run.arm, budget=float(run.budget), seed=run.seed, message=message)


def _leave(text: str, path: Path) -> None:
    # The disk that failed the run may fail this too; the message is kept all the same.
    with contextlib.suppress(OSError):
        path.write_text(text, encoding="utf-8")
