"""What a race has so far, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from headstart.errors import RaceError
from headstart.locks import alone
from headstart.race.definition import Definition, Earlier, check_definition
from headstart.race.one_run import finished_run
from headstart.race.plan import Plan, Run
from headstart.race.statistics.verdict import judge
from headstart.records import Failure, RaceRecord, RunRecord, read_record, write_record

_LOCK = ".race.lock"
_PATIENCE = 5.0  # seconds; a race that has just been stopped may still be leaving


@contextmanager
def race_alone(folder: Path) -> Iterator[None]:
    """Keep a second race out of a race folder: both would train the same runs.

    Raises:
        RaceError: Another one goes on there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RaceError(f"{folder}: cannot be written ({error.strerror or error}); give another folder") from None
    with alone(folder / _LOCK, patience=_PATIENCE) as free:
        if not free:
            raise RaceError(
                f"{folder}: another race goes on in this folder; wait for it, or stop it and start the same command "
                "again. To share the work between machines, do the lines that headstart race --plan prints"
            )
        yield


@dataclass
class Book:
    """What a race has so far.

    Attributes:
        folder: The race folder.
        plan: What is to be run.
        made_of: What the runs of each arm are made of.
        finished: The finished runs.
        previous: The race as it was judged before, if it was.
        failures: Runs that failed in this start.
    """

    folder: Path
    plan: Plan
    made_of: Mapping[str, Definition]
    finished: dict[Run, RunRecord]
    previous: RaceRecord | None
    failures: list[Failure] = field(default_factory=list)

    def save(self, record: RaceRecord) -> RaceRecord:
        """Judge what is there and write `race.json`.

        Raises:
            RaceError: It cannot be written.
        """
        runs = [self.finished[run] for run in self.plan.runs if run in self.finished]
        judged = judge(record.model_copy(update={"runs": runs, "failures": list(self.failures)}))
        path = self.folder / "race.json"
        try:
            write_record(judged, path)
        except OSError as error:
            raise RaceError(f"{path}: cannot be written ({error.strerror or error}); finished runs are kept") from None
        return judged


def open_book(folder: Path, plan: Plan, made_of: Mapping[str, Definition], earlier: Earlier | None = None) -> Book:
    """What the folder holds of the race, once it is sure that it is the same race.

    Raises:
        RaceError: It is not; says what differs.
        HeadstartError: A record cannot be read.
    """
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
        check_definition(folder, run, made_of[run.arm], earlier)
    return Book(folder, plan, made_of, finished, previous)
