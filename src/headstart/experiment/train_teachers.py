"""Teachers that a recipe asks to be trained first."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from headstart.errors import RecipeError
from headstart.recipe.load import varied
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord
from headstart.teachers import find_teacher
from headstart.train.judging import check_judging
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.watcher import SilentWatcher, Watcher


def teacher_recipes(recipe: Recipe, variations: Iterable[Recipe]) -> dict[str, Recipe]:
    """The recipes of the teachers to train first: the recipe without distillation and race, with a teacher's overrides.

    Args:
        recipe: The recipe itself. What an arm varies does not touch the teachers, unless it says so under `teachers`.
        variations: The recipe's arms, or the recipe alone.

    Returns:
        By name, those that the variations use and describe, be it as teachers or to start from their weights.

    Raises:
        RecipeError: An override does not fit, a teacher has the name of a folder that exists, or arms describe it
            differently.
        TeacherError: A teacher that is not described does not exist either.
    """
    found: dict[str, Recipe] = {}
    for variation in variations:
        for name in needed(variation):
            if name not in variation.teachers:
                find_teacher(name)
                continue
            described = _teacher_recipe(recipe, name, variation.teachers[name])
            if found.setdefault(name, described) != described:
                raise RecipeError(f"teachers.{name}: arms describe it differently; give each of them a name of its own")
            if Path(name).exists():
                raise RecipeError(
                    f"teachers.{name}: {name} is also a folder or file here; give the teacher another name"
                )
    return found


def train_teachers(recipes: Mapping[str, Recipe], folder: Path, *, watcher: Watcher | None = None) -> dict[str, Path]:
    """Train teachers; those already there are not trained again.

    Args:
        recipes: By name.
        folder: Gets one run folder a teacher.
        watcher: Told which one is trained, and how far it is.

    Returns:
        The run folder of each teacher by name.

    Raises:
        Preempted: SIGTERM or Ctrl-C came, and the checkpoint of the one in training is written.
        HeadstartError: As `train`.
    """
    watcher = watcher or SilentWatcher()
    paths = {name: folder / name for name in recipes}
    for name, recipe in recipes.items():
        watcher.training(f"teacher {name}")
        train(recipe, paths[name], progress=watcher.step, preemptible=True)
    return paths


def rehearse(runs: Iterable[Recipe], taught: Container[str]) -> None:
    """Bring runs to life without training them: what is wrong is then said before the first step of any teacher.

    Args:
        runs: The recipes.
        taught: Names of the teachers that are still to be trained; runs do without what is learnt from them.

    Raises:
        HeadstartError: Data, model, settings or a teacher that is there do not fit.
    """
    for run in runs:
        check_judging(run)
        Session(_without(taught, run))


def needed(recipe: Recipe) -> list[str]:
    """The specs of the weights that a recipe reads: its teachers', unless they are cached, and those it starts from."""
    cached = recipe.distill is not None and recipe.distill.cache is not None
    return [spec for spec in recipe.sources if not cached or spec == _origin(recipe)]


def trained_before(variations: Iterable[Recipe], taught: Container[str]) -> list[RunRecord]:
    """The records of what variations learn from and a race does not train, where it left one.

    Args:
        variations: The recipe's arms.
        taught: Names of the teachers that the race trains.
    """
    specs = dict.fromkeys(spec for made in variations for spec in needed(made) if spec not in taught)
    found = (find_teacher(spec).record for spec in specs)
    return [record for record in found if record is not None]


def untaught(recipe: Recipe) -> Recipe:
    """The recipe without all that it learns from: teachers, and weights to start from."""
    return recipe.model_copy(update={"init": None, "distill": None})


def _without(taught: Container[str], recipe: Recipe) -> Recipe:
    """The recipe as it can begin before some teachers are trained."""
    if not any(name in taught for name in needed(recipe)):
        return recipe
    alone = untaught(recipe)
    return alone if _origin(recipe) in taught else alone.model_copy(update={"init": recipe.init})


def _origin(recipe: Recipe) -> str | None:
    """The spec of the model that it starts from."""
    return recipe.init.source if recipe.init is not None else None


def _teacher_recipe(recipe: Recipe, name: str, overrides: Mapping[str, Any]) -> Recipe:
    plain = untaught(recipe).model_copy(update={"name": name, "race": None, "teachers": {}})
    return varied(plain, overrides, f"teachers.{name}")
