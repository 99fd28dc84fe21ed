"""The race itself: run what is missing, keep what is there, judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from headstart.errors import HeadstartError, RaceError
from headstart.race.book import Book, open_book, race_alone
from headstart.race.definition import Definition, Earlier
from headstart.race.listener import Listener, Silent
from headstart.race.one_run import RaceFunction
from headstart.race.plan import plan_race
from headstart.race.scheduler import Work
from headstart.records import Arm, Calibration, Curve, RaceRecord, Tuning


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
    curve: Curve = "separate",
    hours: float | None = None,
    earlier: Earlier | None = None,
    tuning: Tuning | None = None,
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
        curve: `cyclic` where the budgets of an arm and seed are points of one training, which `function` goes on with
            from the budget before. These then wait for each other, and the intervals allow for it that their errors
            may be alike. Default: a training of its own for each.
        hours: Start a run only if it is forecast, from those before it, to end within this time. The runs that decide
            most come first (`most_telling_first`); `cut_short` says that some were left out, and the next start goes
            on. Default: all are run.
        earlier: Reads runs that an earlier version has left in the folder. Default: they are taken as they stand.
        tuning: How the arms got their settings, for the record. Default: nothing is known of it.

    Returns:
        The race, judged, as written to `race.json`; failed runs are in its `failures`. Only runs of the arms, budgets
        and seeds asked for are in it; others that the folder holds stay there.

    Raises:
        RaceError: The race cannot be run as asked for, each of several processes (of torchrun, say) has started it,
            another one goes on in the folder, it cannot be written, or it holds runs of another definition (recipe,
            command, unit of the budgets, an arm's overrides), baseline or primary arm.
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
    plan = plan_race(arms, budgets, seeds, baseline, primary, curve)
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise RaceError(
            f"race: started as {processes} processes, each of which would do all of it; start it once, and give it "
            "trainings that start theirs: headstart race --cmd 'torchrun --nproc-per-node ... train.py ... {record}'"
        )
    if workers < 1:
        raise RaceError(f"race: workers={workers} runs nothing; give 1 or more")
    if hours is not None and not hours >= 0:
        raise RaceError(f"race: hours={hours} is no time to race in; give a number above 0")
    # Where a recipe is raced, the command only says how it was started.
    program = "" if recipe else command
    made_of = {
        arm.name: Definition(recipe=recipe, command=program, budget_unit=budget_unit, overrides=arm.overrides)
        for arm in plan.arms
    }
    record = RaceRecord(
        name=name,
        arms=list(plan.arms),
        baseline=plan.baseline,
        primary=plan.primary,
        budgets=list(plan.budgets),
        budget_unit=budget_unit,
        seeds=list(plan.seeds),
        curve=curve,
        recipe=recipe,
        command=command,
        environment=dict(environment or {}),
        tuning=tuning,
    )
    with race_alone(Path(folder)):
        book = open_book(Path(folder), plan, made_of, earlier)
        return _go(function, book, record, calibrate, listener or Silent(), workers, hours, earlier)


def _go(
    function: RaceFunction,
    book: Book,
    record: RaceRecord,
    calibrate: Callable[[], Calibration] | None,
    listener: Listener,
    workers: int,
    hours: float | None,
    earlier: Earlier | None,
) -> RaceRecord:
    old = book.previous
    # Runs that came since, from the jobs of a batch system, may have steps of kinds that are not calibrated yet.
    judged = {(run.arm, run.budget, run.seed) for run in old.runs} if old is not None else set()
    complete = len(book.finished) == len(book.plan.runs) and judged.issuperset(book.plan.runs)
    kept = old.calibration if old is not None and (calibrate is None or complete) else None
    date = old.date if old is not None and complete else datetime.now(UTC).isoformat(timespec="seconds")
    record = record.model_copy(update={"calibration": kept, "date": date})
    if kept is None and earlier is not None:  # the calibration that is kept is of the names as they stand
        book.finished = earlier.runs(book.finished)
    book.save(record)
    left_out = Work(function, book, record, listener, hours).go(workers)
    record = record.model_copy(update={"cut_short": bool(left_out)})
    if calibrate is not None and kept is None and book.finished:
        listener.calibrating()
        record = _calibrated(record, calibrate)
    return book.save(record)


def _calibrated(record: RaceRecord, calibrate: Callable[[], Calibration]) -> RaceRecord:
    try:
        return record.model_copy(update={"calibration": calibrate(), "calibration_failure": ""})
    except HeadstartError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return record.model_copy(update={"calibration_failure": message})
