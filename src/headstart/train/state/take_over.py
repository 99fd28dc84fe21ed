"""A training in cycles that goes on where a shorter one of the same cycles has ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from headstart.recipe.recipe import Recipe
from headstart.teachers.find import RECORD
from headstart.train.state.checkpoint import checkpoints
from headstart.train.state.run_folder import AUTO, INITIAL, METRICS, RECIPE, same_recipe

_LENGTH = ("epochs", "steps")


def take_over(shorter: Sequence[Path], recipe: Recipe, folder: Path) -> None:
    """Put the last checkpoint of a shorter run, and its metrics, where a longer one finds them as its own.

    All that a step of a training in cycles does follows from its number, whatever the length of the whole: a run that
    goes on so has the same weights as one that began at the beginning. Where none of the shorter runs has finished
    nothing happens, and the longer one begins there.

    Args:
        shorter: Run folders, the shortest first.
        recipe: Of the longer run.
        folder: Its run folder; one with a checkpoint of its own is left as it is.
    """
    if checkpoints(folder):
        return
    for path in reversed(shorter):
        last = next(iter(checkpoints(path)), None)
        if last is not None and (path / RECORD).exists() and same_recipe(path / RECIPE, recipe, but=_LENGTH):
            for name in (METRICS, INITIAL, AUTO):
                if (path / name).exists():
                    shutil.copyfile(path / name, folder / name)
            _copy(last, folder / last.name)
            return


def _copy(source: Path, target: Path) -> None:
    """Under a name that is cleared away if it is left behind, until it is whole."""
    unfinished = target.with_name(f".{target.name}.tmp")
    if source.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
    else:
        shutil.copyfile(source, unfinished)
    os.replace(unfinished, target)
