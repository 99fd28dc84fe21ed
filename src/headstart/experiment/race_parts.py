"""A race in parts: what the jobs of a batch system do over one race folder, each for itself."""

from __future__ import annotations

from pathlib import Path

from headstart.errors import RaceError
from headstart.experiment.race import (
    arm_recipe,
    budget_unit,
    planned_runs,
    race_definition,
    run_recipe,
    settled_race,
    shorter_runs,
)
from headstart.experiment.train_teachers import teacher_recipes
from headstart.race import Definition, run_name, run_once
from headstart.race.one_run import unfinished_runs
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord
from headstart.teachers.find import RECORD
from headstart.train.run import train
from headstart.train.watcher import SilentWatcher, Watcher


def unfinished_parts(recipe: Recipe, folder: Path) -> list[str]:
    """The parts of a recipe's race that are still to be done: teachers first, which the runs need.

    Args:
        recipe: With a `race` section.
        folder: The race folder.

    Returns:
        Folders inside the race folder: `teachers/NAME`, `runs/NAME`.

    Raises:
        HeadstartError: There is no `race` section, or what it says does not fit.
    """
    teachers = [part for part in _taught(recipe) if not (folder / part / RECORD).exists()]
    return [*teachers, *unfinished_runs(folder, planned_runs(recipe))]


def train_part(recipe: Recipe, folder: Path, part: str, *, watcher: Watcher | None = None) -> RunRecord:
    """Do one part of a race, unless it is finished; SIGTERM makes it write a checkpoint and leave.

    Args:
        recipe: With a `race` section.
        folder: The race folder; many processes may each do a part in it at a time.
        part: As `unfinished_parts` names it.
        watcher: Told what happens.

    Raises:
        RaceError: The race has no such part, or a teacher that it needs is not there yet.
        Preempted: SIGTERM came, and the checkpoint is written.
        HeadstartError: As `train`.
    """
    watcher = watcher or SilentWatcher()
    recipe, told = settled_race(recipe, folder)
    taught = _taught(recipe)
    watcher.note(told)
    watcher.training(part)
    if part in taught:
        return train(taught[part], folder / part, progress=watcher.step, preemptible=True)
    runs = {f"runs/{run_name(*run)}": run for run in planned_runs(recipe)}
    if part not in runs:
        raise RaceError(f"{part} is no part of this race; headstart race --plan lists those that are still to be done")
    run = runs[part]
    arm = arm_recipe(recipe, run.arm)
    paths = {spec: folder / f"teachers/{spec}" for spec in arm.sources if f"teachers/{spec}" in taught}
    for spec, path in paths.items():
        if not (path / RECORD).exists():
            raise RaceError(
                f"{part} needs its teacher {spec!r}, which is not trained yet: --only teachers/{spec} first"
            )
    labels = {**run._asdict(), "folder": part}

    def once(name: str, budget: float, seed: int) -> RunRecord:
        return train(
            run_recipe(arm, budget, seed),
            folder / part,
            teacher_paths=paths,
            progress=watcher.step,
            labels=labels,
            preemptible=True,
            shorter=shorter_runs(recipe, folder, run),
        )

    return run_once(once, folder, run, _definition(recipe, run.arm))


def _taught(recipe: Recipe) -> dict[str, Recipe]:
    """The teachers to train first, by their folder."""
    arms = recipe.race.arms if recipe.race is not None else {}
    described = teacher_recipes(recipe, [arm_recipe(recipe, name) for name in arms])
    return {f"teachers/{name}": made for name, made in described.items()}


def _definition(recipe: Recipe, arm: str) -> Definition:
    overrides = recipe.race.overrides(arm) if recipe.race is not None else {}
    return Definition(recipe=race_definition(recipe), budget_unit=budget_unit(recipe), overrides=overrides)
