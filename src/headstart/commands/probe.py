"""What `headstart teachers --probe` does: a look at the teachers of a recipe, without training anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Column, Table
from rich.text import Text

from headstart.distill.probing import COLUMNS, Probe
from headstart.errors import RecipeError, TeacherError
from headstart.recipe.automatic import MEANS
from headstart.recipe.checks import check_settings
from headstart.recipe.distill_section import Distill
from headstart.recipe.recipe import Recipe
from headstart.teachers.find import WEIGHTS
from headstart.train import ranks
from headstart.train.precision import settled
from headstart.train.probing import Looked, chosen, look_at_teachers, told
from headstart.train.setup.build_task import build_task


def probe_recipe(
    recipe: Recipe,
    specs: Sequence[str] = (),
    folder: Path = Path("runs/run/teachers"),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Looked, list[str]]:
    """Look at teachers as a run of a recipe would before its first step, and time them here.

    Args:
        recipe: Its student, data and training are what teachers are measured by.
        specs: Teachers, or patterns. Default: those of the recipe's `distill` section, else those that it describes.
        folder: Where those lie that the recipe describes, each in a run folder of its name.
        progress: Told how many forwards of how many are done.

    Returns:
        What was found; and lines with the settings that would follow.

    Raises:
        RecipeError: There are no teachers.
        TeacherError: One is not there yet, cannot be read or does not fit.
        HeadstartError: Data or student cannot be had.
    """
    recipe = settled(_with_teachers(recipe, specs))
    assert recipe.distill is not None
    check_settings(recipe)
    paths = {spec: _trained(folder / spec) for spec in recipe.distill.specs if spec in recipe.teachers}
    device = torch.device(ranks.connect().device)
    looked = look_at_teachers(
        recipe, build_task(recipe, device), device, paths, timed=True, in_full=True, progress=progress
    )
    return looked, told(chosen(recipe, looked))


def probe_table(probe: Probe) -> Table:
    """The record as a table for the terminal, the best teacher first."""
    others = [Column(name.replace(" ", "\n"), justify="right", no_wrap=True) for name in COLUMNS[1:]]
    table = Table(Column(COLUMNS[0], overflow="fold"), *others, padding=(0, 0), pad_edge=False)
    for teacher in probe.ranked:
        table.add_row(*map(Text, teacher.cells()), style=None if teacher.dropped is None else "dim")
    return table


def probe_json(looked: Looked, lines: Iterable[str]) -> dict[str, Any]:
    """The record for machines: teachers in their order, the best one first in `ranking`, and what would follow."""
    found = looked.probe
    ranking = [teacher.name for teacher in found.ranked if teacher.dropped is None]
    return {**found.to_dict(), "rows_of": looked.rows, "ranking": ranking, "told": list(lines)}


def _with_teachers(recipe: Recipe, specs: Sequence[str]) -> Recipe:
    """The recipe as `distill: auto` would have it, with these teachers, or its own."""
    own = recipe.distill.teachers if recipe.distill is not None else list(recipe.teachers)
    teachers: list[Any] = [*specs] or [*own]
    if not teachers:
        raise RecipeError(f"{recipe.name}: names no teachers; give some: headstart teachers SPEC --probe RECIPE")
    kept = {"loss", "start", "cap"}
    settings = {} if recipe.distill is None else recipe.distill.model_dump(include=kept, exclude_defaults=True)
    section = Distill.model_validate({**MEANS, **settings, "teachers": teachers})
    return recipe.model_copy(update={"distill": section})


def _trained(place: Path) -> Path:
    if not (place / WEIGHTS).is_file():
        raise TeacherError(
            f"{place}: the recipe trains this teacher first, and it is not there; train it (headstart train or race), "
            "or give the folder where it is with --trained"
        )
    return place
