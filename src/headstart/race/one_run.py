"""One run of a race: what makes it a finished one, in the race or in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from headstart.race.check_record import accept, check_same_metric
from headstart.race.definition import Definition, keep_definition
from headstart.race.plan import Run
from headstart.race.run_names import record_path, run_part
from headstart.records import RunRecord, read_record, write_record


@runtime_checkable
class Stoppable(Protocol):
    """A function whose calls, each in a thread of its own, can be made to end before they are done."""

    def stop(self) -> None:
        """End all calls that are under way: a race of several workers was interrupted."""
        ...  # pragma: no cover


RaceFunction: TypeAlias = Callable[[str, float, int], RunRecord | Mapping[str, object]]


def run_once(
    function: RaceFunction,
    folder: str | os.PathLike[str],
    run: Run,
    definition: Definition,
    *,
    like: RunRecord | None = None,
) -> RunRecord:
    """Do a run and save its record, which a race over the same folder then finds.

    Args:
        function: As in `race`.
        folder: The race folder.
        run: Which one.
        definition: What it is made of; a race of something else refuses it.
        like: Another run of the race: the metric must be the same.

    Returns:
        The record as saved.

    Raises:
        RaceError: What the function returned is no record, or of another metric.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = run_once(lambda *_: {"quality": 0.5, "seconds": 1}, folder, Run("plain", 4, 0), Definition())
        ...     finished_run(folder, Run("plain", 4, 0)) == made
        True
    """
    keep_definition(folder, run, definition)
    record = accept(function(*run), "what the function returned")
    check_same_metric(record, like)
    stamp = {**run._asdict(), "budget": float(run.budget), "folder": run_part(*run)}
    record = record.model_copy(update=stamp)
    write_record(record, record_path(folder, *run))
    return record


def finished_run(folder: str | os.PathLike[str], run: Run) -> RunRecord | None:
    """The record of a finished run; None where it has not finished.

    Raises:
        HeadstartError: It cannot be read.
    """
    path = record_path(folder, *run)
    if not path.exists():
        return None
    record = read_record(RunRecord, path)
    # What a training left there itself, without the race's stamp, has not been accepted yet.
    return record if (record.arm, record.budget, record.seed) == run else None


def unfinished_runs(folder: str | os.PathLike[str], runs: Iterable[Run]) -> dict[str, Run]:
    """The runs of a race that are still to be done, in their order, by their folder inside the race folder.

    Raises:
        HeadstartError: A record in the folder cannot be read.

    Example:
        >>> unfinished_runs("nowhere", [Run("baseline", 4, 0)])
        {'runs/baseline-b4-s0': Run(arm='baseline', budget=4, seed=0)}
    """
    return {run_part(*run): run for run in runs if finished_run(folder, run) is None}
