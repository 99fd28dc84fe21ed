"""The race itself: run what is missing, keep what is there, judge."""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headstart.errors import HeadstartError, RaceError
from headstart.race.definition import Definition, check_definition
from headstart.race.listener import Listener, Silent
from headstart.race.naming import run_folder
from headstart.race.once import RaceFunction, finished_run, run_once
from headstart.race.plan import Plan, Run, plan_race
from headstart.race.verdict import judge
from headstart.records import Arm, Calibration, Failure, RaceRecord, RunRecord, read_record, write_record


def race(
    function: RaceFunction,
    *,
    arms: Iterable[str | Arm],
    budgets: Iterable[float],
    seeds: Iterable[int],
    folder: str | os.PathLike[str],
    baseline: str | None = None,
    primary: str | None = None,
    name: str = "race",
    budget_unit: str = "budget",
    calibrate: Callable[[], Calibration] | None = None,
    recipe: str = "",
    command: str = "",
    environment: Mapping[str, str] | None = None,
    listener: Listener | None = None,
    workers: int = 1,
) -> RaceRecord:
    """Race arms over budgets and seeds, and judge how much faster than the baseline each of them is.

    Runs go one after the other (see `workers`), the arms side by side and their order turned around from block to
    block. Each finished run is saved at once and never redone: a race that was interrupted goes on where it was, one
    that is given more arms, budgets or seeds runs those. A failed run is recorded, the others go on, and the next start
    tries it again.

    Args:
        function: Called as `function(arm, budget, seed)`; trains and returns a `RunRecord`, or a mapping with at least
            `quality` (held-out metric) and `seconds` (of training). Arm, budget, seed and folder are filled in.
        arms: Two or more, by name or as `records.Arm`.
        budgets: How long to train, in any unit, above 0; each budget a complete training of its own.
        seeds: The same for every arm. One seed gives no interval, three a usable one.
        folder: The race folder: `race.json`, and `runs/<run name>/record.json` for each run.
        baseline: The arm to compare with. Default: the first.
        primary: The arm that the verdict is about, named before the race. Default: the first that is not the baseline.
        name: The race's name, for the report.
        budget_unit: What a budget counts, for the report: "epochs", "steps".
        calibrate: Called once after the runs; times each kind of step on the then quiet machine. If it fails, the race
            keeps its other clocks, and `calibration_failure` says why. Not called again for a race that was complete.
        recipe: The recipe's text, where a recipe is raced; part of what must not change.
        command: The command's template, where a program is raced; part of what must not change. With a `recipe`, only
            how the race was started.
        environment: Versions, device and the like, for the report.
        listener: Told what happens. Default: nothing is.
        workers: Runs that go on at once, each in a thread of its own. Side by side they slow each other, so that raw
            seconds mean less; calibrated seconds and FLOPs do not mind. Default 1: one after the other.

    Returns:
        The race, judged, as written to `race.json`; failed runs are in its `failures`. Only runs of the arms, budgets
        and seeds asked for are in it; others that the folder holds stay there.

    Raises:
        RaceError: The race cannot be run as asked for, the folder cannot be written, or it holds runs of another
            definition (recipe, command, unit of the budgets, an arm's overrides), baseline or primary arm.
        HeadstartError: A record in the folder cannot be read.

    Example:
        >>> import tempfile
        >>> def train(arm, budget, seed):
        ...     return {"quality": 1 - 1 / (budget * (2 if arm == "fast" else 1)), "seconds": budget}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = race(train, arms=["plain", "fast"], budgets=[1, 2, 4], seeds=[0], folder=folder).results[0]
        >>> f"{result.speedup.value:.2f}x, {result.verdict}"
        '2.00x, not resolved'
    """
    plan = plan_race(arms, budgets, seeds, baseline, primary)
    if workers < 1:
        raise RaceError(f"race: workers={workers} runs nothing; give 1 or more")
    # Where a recipe is raced, the command only says how it was started.
    program = "" if recipe else command
    made_of = {
        arm.name: Definition(recipe=recipe, command=program, budget_unit=budget_unit, overrides=arm.overrides)
        for arm in plan.arms
    }
    book = _open(Path(folder), plan, made_of)
    record = RaceRecord(
        name=name,
        arms=list(plan.arms),
        baseline=plan.baseline,
        primary=plan.primary,
        budgets=list(plan.budgets),
        budget_unit=budget_unit,
        seeds=list(plan.seeds),
        recipe=recipe,
        command=command,
        environment=dict(environment or {}),
    )
    return _go(function, book, record, calibrate, listener or Silent(), workers)


@dataclass
class _Book:
    """What a race has so far, and its files."""

    folder: Path
    plan: Plan
    made_of: Mapping[str, Definition]
    finished: dict[Run, RunRecord]
    previous: RaceRecord | None
    failures: list[Failure] = field(default_factory=list)

    def pending(self) -> list[Run]:
        return [run for run in self.plan.runs if run not in self.finished]

    def save(self, record: RaceRecord) -> RaceRecord:
        """Judge what is there and write `race.json`."""
        runs = [self.finished[run] for run in self.plan.runs if run in self.finished]
        judged = judge(record.model_copy(update={"runs": runs, "failures": list(self.failures)}))
        _write(judged, self.folder / "race.json")
        return judged


def _open(folder: Path, plan: Plan, made_of: Mapping[str, Definition]) -> _Book:
    """What the folder holds of the race, once it is sure that it is the same race."""
    path = folder / "race.json"
    previous = read_record(RaceRecord, path) if path.exists() else None
    if previous is not None and previous.runs:
        for role, was, now in (
            ("baseline", previous.baseline, plan.baseline),
            ("primary arm", previous.primary, plan.primary),
        ):
            if was != now:
                raise RaceError(
                    f"race folder {folder}: the {role} was {was!r} when its runs were made, and is now {now!r}; it is "
                    "named before the race, so that no result chooses it. Name the same one, or give a new folder."
                )
    finished = {run: record for run in plan.runs if (record := finished_run(folder, run)) is not None}
    for run in finished:
        check_definition(folder, run, made_of[run.arm])
    return _Book(folder, plan, made_of, finished, previous)


def _go(
    function: RaceFunction,
    book: _Book,
    record: RaceRecord,
    calibrate: Callable[[], Calibration] | None,
    listener: Listener,
    workers: int,
) -> RaceRecord:
    pending = book.pending()
    old = book.previous
    kept = old.calibration if old is not None and (calibrate is None or not pending) else None
    date = old.date if old is not None and not pending else datetime.now(UTC).isoformat(timespec="seconds")
    record = record.model_copy(update={"calibration": kept, "date": date})
    book.save(record)
    _run_all(function, book, record, listener, workers)
    if calibrate is not None and kept is None and book.finished:
        listener.calibrating()
        record = _calibrated(record, calibrate)
    return book.save(record)


def _run_all(function: RaceFunction, book: _Book, record: RaceRecord, listener: Listener, workers: int) -> None:
    """Run what is missing; the book and the listener see one thing at a time, whatever the number of workers."""
    one_at_a_time = threading.Lock()
    pending, total = book.pending(), len(book.plan.runs)
    under_way: set[Run] = set()

    def one(run: Run) -> None:
        with one_at_a_time:
            started = len(book.finished) + len(book.failures) + len(under_way) + 1
            under_way.add(run)
            listener.run_started(*run, started, total)
        outcome = _attempt(function, book, run)
        with one_at_a_time:
            under_way.remove(run)
            if isinstance(outcome, Failure):
                book.failures.append(outcome)
                listener.run_failed(outcome)
            else:
                book.finished[run] = outcome
                listener.run_finished(outcome)
            book.save(record)

    if workers == 1:  # not in a thread, so that an interrupt ends the run itself
        for run in pending:
            one(run)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        for job in [pool.submit(one, run) for run in pending]:
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(function: RaceFunction, book: _Book, run: Run) -> RunRecord | Failure:
    """Run once; whatever goes wrong in it is this run's failure alone."""
    details = run_folder(book.folder, *run) / "traceback.txt"
    try:
        details.unlink(missing_ok=True)
        like = next(iter(book.finished.values()), None)
        return run_once(function, book.folder, run, book.made_of[run.arm], like=like)
    except HeadstartError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error} (traceback in {details})"
        _leave(traceback.format_exc(), details)
    return Failure(arm=run.arm, budget=float(run.budget), seed=run.seed, message=message)


def _calibrated(record: RaceRecord, calibrate: Callable[[], Calibration]) -> RaceRecord:
    try:
        return record.model_copy(update={"calibration": calibrate(), "calibration_failure": ""})
    except HeadstartError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return record.model_copy(update={"calibration_failure": message})


def _leave(text: str, path: Path) -> None:
    # The disk that failed the run may fail this too; the message is kept all the same.
    with contextlib.suppress(OSError):
        path.write_text(text, encoding="utf-8")


def _write(record: RaceRecord, path: Path) -> None:
    try:
        write_record(record, path)
    except OSError as error:
        raise RaceError(f"{path}: cannot be written ({error.strerror or error}); finished runs are kept") from None
