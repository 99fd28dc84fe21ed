"""A race in parts: what the jobs of a batch system do over one race folder, each for itself."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from headstart.errors import RaceError
from headstart.experiment.arms import (
    arm_recipe,
    budget_unit,
    planned_runs,
    race_definition,
    race_section,
    run_recipe,
    shorter_runs,
)
from headstart.experiment.race import settled_race, taught_first
from headstart.experiment.trials import planned_trials, tuned_recipe
from headstart.experiment.tune import finished_trial, run_trial, tuning_of
from headstart.race import Definition, Run, run_once
from headstart.race.one_run import unfinished_runs
from headstart.race.run_names import run_part
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, Trial
from headstart.teachers.find import RECORD
from headstart.train.run import train
from headstart.train.watcher import SilentWatcher, Watcher


def unfinished_parts(recipe: Recipe, folder: Path) -> list[str]:
    """The parts of a recipe's race that are still to be done: teachers first, then trials, which the runs need.

    Args:
        recipe: With a `race` section.
        folder: The race folder.

    Returns:
        Folders inside the race folder: `teachers/NAME`, `tuning/NAME`, `runs/NAME`.

    Raises:
        HeadstartError: There is no `race` section, or what it says does not fit.
    """
    teachers = [part for name in taught_first(recipe) if not (folder / (part := f"teachers/{name}") / RECORD).exists()]
    # What lies there has a precision in place of `auto`, and is compared with the recipe as a whole.
    begun = settled_race(recipe, folder)[0] if planned_trials(recipe) else recipe
    trials = [trial.part for trial in planned_trials(begun) if finished_trial(trial, folder) is None]
    return [*teachers, *trials, *unfinished_runs(folder, planned_runs(recipe))]


def train_part(recipe: Recipe, folder: Path, part: str, *, watcher: Watcher | None = None) -> RunRecord | Trial:
    """Do one part of a race, unless it is finished; SIGTERM makes it write a checkpoint and leave.

    Args:
        recipe: With a `race` section.
        folder: The race folder; many processes may each do a part in it at a time.
        part: As `unfinished_parts` names it.
        watcher: Told what happens.

    Raises:
        RaceError: The race has no such part, or a teacher or a trial that it needs is not there yet.
        Preempted: SIGTERM came, and the checkpoint is written.
        HeadstartError: As `train`.
    """
    watcher = watcher or SilentWatcher()
    recipe, told = settled_race(recipe, folder)
    taught = taught_first(recipe)
    watcher.note(told)
    watcher.training(part)
    if part in (teachers := {f"teachers/{name}": made for name, made in taught.items()}):
        return train(teachers[part], folder / part, progress=watcher.step, preemptible=True)
    if part in (trials := {trial.part: trial for trial in planned_trials(recipe)}):
        trial = trials[part]
        paths = _teachers(trial.recipe, taught, folder, part)
        return finished_trial(trial, folder) or run_trial(trial, folder, paths, progress=watcher.step)
    if part in (runs := {run_part(*run): run for run in planned_runs(recipe)}):
        return _run(_tuned(recipe, runs[part].arm, folder, part), taught, folder, runs[part], watcher)
    raise RaceError(f"{part} is no part of this race; headstart race --plan lists those that are still to be done")


def _run(recipe: Recipe, taught: Container[str], folder: Path, run: Run, watcher: Watcher) -> RunRecord:
    arm, part = arm_recipe(recipe, run.arm), run_part(*run)
    paths = _teachers(arm, taught, folder, part)
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


def _teachers(made: Recipe, taught: Container[str], folder: Path, part: str) -> dict[str, Path]:
    """The run folders of the teachers that a part needs."""
    paths = {spec: folder / f"teachers/{spec}" for spec in made.sources if spec in taught}
    for spec, path in paths.items():
        if not (path / RECORD).exists():
            raise RaceError(
                f"{part} needs its teacher {spec!r}, which is not trained yet: --only teachers/{spec} first"
            )
    return paths


def _tuned(recipe: Recipe, arm: str, folder: Path, part: str) -> Recipe:
    """The recipe with the settings that an arm has chosen."""
    planned = [trial for trial in planned_trials(recipe) if trial.arm == arm]
    finished = {trial.part: finished_trial(trial, folder) for trial in planned}
    for name, trial in finished.items():
        if trial is None:
            raise RaceError(f"{part} needs the settings that {arm} chooses: --only {name} first")
    tuning = tuning_of(recipe, folder, planned, [trial for trial in finished.values() if trial is not None], arms=[arm])
    return recipe if tuning is None else tuned_recipe(recipe, tuning.chosen)


def _definition(recipe: Recipe, arm: str) -> Definition:
    overrides = race_section(recipe).overrides(arm)
    return Definition(recipe=race_definition(recipe), budget_unit=budget_unit(recipe), overrides=overrides)
