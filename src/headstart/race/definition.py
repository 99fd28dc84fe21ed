"""What a run was made of, kept beside its record, so that runs of different making never share a race."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from headstart.errors import RaceError
from headstart.race.plan import Run
from headstart.race.run_names import run_folder, run_name
from headstart.records import Record, RunRecord, read_record, write_record


class Earlier(Protocol):
    """Reads what an earlier version of whatever is raced has written, as it would be written now."""

    def recipe(self, text: str) -> str:
        """The recipe's text as today's version writes it; as it is where that cannot read it."""
        ...  # pragma: no cover

    def runs(self, finished: Mapping[Run, RunRecord]) -> dict[Run, RunRecord]:
        """Finished runs with today's names for their kinds of steps, so that one calibration is of them all."""
        ...  # pragma: no cover


class Definition(Record):
    """What is the same for all runs of an arm: a finished run counts only as long as this has not changed."""

    recipe: str = ""
    command: str = ""
    budget_unit: str = ""
    overrides: dict[str, Any] = Field(default={})


def keep_definition(folder: str | os.PathLike[str], run: Run, definition: Definition) -> None:
    """Write down what a run that is about to start is made of."""
    write_record(definition, _path(folder, run))


def begun_recipe(folder: str | os.PathLike[str]) -> str:
    """The text of the recipe that a race folder's runs were made with, as the first of them tells; empty without any.

    Raises:
        HeadstartError: What a run was made of cannot be read.

    Example:
        >>> begun_recipe("nowhere")
        ''
    """
    path = next(iter(sorted(Path(folder).glob("runs/*/definition.json"))), None)
    return "" if path is None else read_record(Definition, path).recipe


def check_definition(folder: str | os.PathLike[str], run: Run, now: Definition, earlier: Earlier | None = None) -> None:
    """Refuse a finished run that was made of something else.

    Args:
        folder: The race folder.
        run: A finished run in it.
        now: What the run would be made of today.
        earlier: Reads a recipe that an earlier version wrote. Default: it is compared as it stands.

    Raises:
        RaceError: It differs; says in what.
    """
    path = _path(folder, run)
    if not path.exists():
        return
    old = read_record(Definition, path)
    if earlier is not None:
        old = old.model_copy(update={"recipe": earlier.recipe(old.recipe)})
    changes = _changes(old, now)
    if changes:
        raise RaceError(
            f"race folder {os.fspath(folder)}: its finished run {run_name(*run)!r} was made with another definition: "
            f"{'; '.join(changes)}. Give the changed race a new folder, or undo the change to go on with this one."
        )


def _path(folder: str | os.PathLike[str], run: Run) -> Path:
    return run_folder(folder, *run) / "definition.json"


def _changes(old: Definition, new: Definition) -> list[str]:
    changes = []
    if old.recipe != new.recipe:
        changes.append(_recipe_change(old.recipe, new.recipe))
    for name in ("command", "budget_unit"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            changes.append(f"{name} was {was!r}, is now {now!r}")
    # As JSON, because a tuple comes back from the file as a list.
    overrides = json.loads(new.model_dump_json())["overrides"]
    for key in sorted({*old.overrides, *overrides}):
        both = (old.overrides, overrides)
        if len({key in values for values in both}) > 1 or both[0][key] != both[1][key]:
            told = [repr(values[key]) if key in values else "not set" for values in both]
            changes.append(f"override {key} was {told[0]}, is now {told[1]}")
    return changes


def _recipe_change(old: str, new: str) -> str:
    lines = zip_longest(old.splitlines(), new.splitlines())
    for number, (was, now) in enumerate(lines, start=1):
        if was != now:
            told = [repr(line) if line is not None else "not there" for line in (was, now)]
            return f"line {number} of the recipe was {told[0]}, is now {told[1]}"
    return "the recipe's line ends have changed"
