"""What an earlier version has left in the folder of a recipe's race, read through today's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headstart.errors import HeadstartError
from headstart.race import Run
from headstart.recipe.load import dump_recipe, parse_recipe
from headstart.recipe.recorded import names_today, recorded_recipe
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
        names: dict[str, str] = {}
        for record in [*finished.values(), *teachers]:
            names |= names_today(record)
        return {run: _renamed(record, names) for run, record in finished.items()}


def _renamed(record: RunRecord, names: Mapping[str, str]) -> RunRecord:
    def steps(of: RunRecord | TeacherCost) -> dict[str, int]:
        return {names.get(kind, kind): count for kind, count in of.steps.items()}

    teachers = [cost.model_copy(update={"steps": steps(cost)}) for cost in record.teachers]
    return record.model_copy(update={"steps": steps(record), "teachers": teachers, "settings": _spelled_out(record)})


def _spelled_out(record: RunRecord) -> dict[str, Any]:
    recipe = recorded_recipe(record)
    return record.settings if recipe is None else recipe.model_dump(mode="json")
