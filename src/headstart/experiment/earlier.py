"""What an earlier version has left in the folder of a recipe's race, read through today's recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from headstart.errors import HeadstartError
from headstart.race import Run
from headstart.recipe.load import dump_recipe, parse_recipe
from headstart.recipe.step_kinds import count_steps
from headstart.records import RunRecord, TeacherCost, read_record
from headstart.teachers.find import RECORD


class EarlierRuns:
    """Recipes and runs as today's version would have written them: what they lack is at its default.

    Args:
        folder: The race folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recipe(self, text: str) -> str:
        """The text with every key that there is today; as it stands where today's recipes have no such keys.

        Example:
            >>> EarlierRuns(Path("runs/race")).recipe("wings: 2")
            'wings: 2'
        """
        try:
            return dump_recipe(parse_recipe(yaml.safe_load(text), "the recipe of a finished run"))
        except (HeadstartError, yaml.YAMLError):
            return text

    def runs(self, finished: Mapping[Run, RunRecord]) -> dict[Run, RunRecord]:
        """The runs with all of today's settings and names of kinds of steps, those of their teachers too."""
        teachers = [read_record(RunRecord, path) for path in self._folder.glob(f"teachers/*/{RECORD}")]
        names = _names([*finished.values(), *teachers])
        return {run: _renamed(record, names) for run, record in finished.items()}


def _names(records: Iterable[RunRecord]) -> dict[str, str]:
    """Today's name of each kind of step, by the one it has: a record says how many there are of each, in order."""
    names: dict[str, str] = {}
    for record in records:
        try:
            recipe = parse_recipe(record.settings, "the settings of a finished run")
        except HeadstartError:
            continue
        end = record.stopped.end if record.stopped is not None else None
        now = count_steps(recipe, sum(record.steps.values()), end=end)
        if list(now.values()) == list(record.steps.values()):
            names |= zip(record.steps, now, strict=True)
    return names


def _renamed(record: RunRecord, names: Mapping[str, str]) -> RunRecord:
    def steps(of: RunRecord | TeacherCost) -> dict[str, int]:
        return {names.get(kind, kind): count for kind, count in of.steps.items()}

    teachers = [cost.model_copy(update={"steps": steps(cost)}) for cost in record.teachers]
    return record.model_copy(update={"steps": steps(record), "teachers": teachers, "settings": _spelled_out(record)})


def _spelled_out(record: RunRecord) -> dict[str, Any]:
    try:
        return parse_recipe(record.settings, "the settings of a finished run").model_dump(mode="json")
    except HeadstartError:
        return record.settings
