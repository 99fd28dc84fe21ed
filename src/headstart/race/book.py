"""What a race has so far, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headstart.errors import RaceError
from headstart.race.definition import Definition, check_definition
from headstart.race.one_run import finished_run
from headstart.race.plan import Plan, Run
from headstart.race.statistics.verdict import judge
from headstart.records import Failure, RaceRecord, RunRecord, read_record, write_record


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


def open_book(folder: Path, plan: Plan, made_of: Mapping[str, Definition]) -> Book:
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
        check_definition(folder, run, made_of[run.arm])
    return Book(folder, plan, made_of, finished, previous)
