"""The race of a recipe: its arms at its budgets with its seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.errors import RecipeError
from headstart.experiment.calibrate import calibrate
from headstart.experiment.earlier import EarlierRuns
from headstart.experiment.ray_cluster import Cluster
from headstart.experiment.train_teachers import rehearse, teacher_recipes, train_teachers
from headstart.experiment.worker_processes import Workers, threads_of_a_worker
from headstart.race import Run, most_telling_first, plan_race, race, race_alone, run_folder
from headstart.race.definition import begun_recipe
from headstart.recipe.load import dump_recipe, varied
from headstart.recipe.race_section import Race
from headstart.recipe.recipe import Recipe
from headstart.records import Arm, Calibration, RaceRecord, RunRecord
from headstart.train.costs.environment import environment
from headstart.train.precision import precision_told, settled
from headstart.train.run import train
from headstart.train.state.run_folder import RECIPE
from headstart.train.trackers import track_race
from headstart.train.watcher import SilentWatcher, Watcher


def race_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    watcher: Watcher | None = None,
    command: str = "",
    workers: int = 1,
    cluster: Cluster | None = None,
    hours: float | None = None,
) -> RaceRecord:
    """Train the teachers, run the race, calibrate its step times and judge it. What is finished is not done again.

    Args:
        recipe: With a `race` section.
        folder: The race folder: teachers, runs, `race.json`.
        watcher: Told what happens. Default: nothing is.
        command: For the record.
        workers: Runs trained at once, each in a process with its share of the cores; see `Workers`. The watcher is then
            told of a teacher's steps only.
        cluster: Where teachers and runs are trained and step times calibrated, `workers` at once. Default: here.
        hours: How long teachers and runs may take, as in `race`; the calibration comes on top.

    Raises:
        Preempted: SIGTERM or Ctrl-C came, and the checkpoint of what was in training is written.
        HeadstartError: There is no `race` section, an arm's overrides, the data, a budget or a teacher do not fit, or
            another race goes on in the folder; before anything is trained.
    """
    begin = time.monotonic()
    folder, settings, watcher = Path(folder), _race_section(recipe), watcher or SilentWatcher()
    recipe, told = settled_race(recipe, folder) if cluster is None else cluster.call(settled_race, recipe, folder)
    watcher.note(told)
    arms = {name: arm_recipe(recipe, name) for name in settings.arms}
    taught = teacher_recipes(recipe, arms.values())
    if not (folder / "race.json").exists():
        runs = [(run.arm, run_recipe(arms[run.arm], run.budget, run.seed)) for run in planned_runs(recipe)]
        rehearse(dict(reversed(runs)).values(), taught)  # the first of each arm
    with ExitStack() as stack:
        stack.enter_context(race_alone(folder))
        paths = _train_teachers(taught, folder / "teachers", watcher, workers, cluster)

        def measure() -> Calibration:
            raced, pairs = [*arms.values(), *taught.values()], settings.calibration_pairs
            if cluster is not None:
                return cluster.call(calibrate, raced, teacher_paths=paths, pairs=pairs)
            with threads_of_a_worker(workers):  # as the runs: another number would time other steps
                return calibrate(raced, teacher_paths=paths, pairs=pairs, progress=watcher.calibration_step)

        pool = stack.enter_context(Workers(workers)) if workers > 1 and cluster is None else cluster
        record = race(
            _Runner(recipe, arms, folder, paths, watcher, pool),
            arms=_arms(settings),
            budgets=settings.budgets,
            seeds=settings.seeds,
            baseline=settings.baseline,
            primary=settings.primary,
            folder=folder,
            name=recipe.name,
            budget_unit=budget_unit(recipe),
            calibrate=measure,
            recipe=race_definition(recipe),
            command=command,
            environment=_environment() if cluster is None else cluster.call(_environment),
            listener=watcher,
            workers=workers,
            curve=settings.curve,
            earlier=EarlierRuns(folder),
            hours=None if hours is None else max(0.0, hours - (time.monotonic() - begin) / 3600),
        )
    track_race(record, recipe, folder)
    return record


def race_definition(recipe: Recipe) -> str:
    """What must not change while a recipe is raced: all but the race section, as more budgets are the same race."""
    return dump_recipe(recipe.model_copy(update={"race": None}))


def settled_race(recipe: Recipe, folder: Path) -> tuple[Recipe, str]:
    """The recipe with a precision in place of `auto`, the same for the whole race: see `settled`.

    Args:
        recipe: What is raced.
        folder: The race folder; what was begun there goes on as it began.

    Returns:
        The recipe, and a line that tells of its precision.
    """
    chosen = settled(recipe, begun_recipe(folder) or _first_teacher(folder), folder)
    return chosen, precision_told(recipe, chosen)


def _first_teacher(folder: Path) -> str:
    """The text of its recipe, where a race has come no further."""
    path = next(iter(sorted(folder.glob(f"teachers/*/{RECIPE}"))), None)
    return "" if path is None else path.read_text(encoding="utf-8")


def planned_runs(recipe: Recipe, *, limited: bool = False) -> list[Run]:
    """The runs of a recipe's race, in their order, or in that of a race with limited time.

    Raises:
        HeadstartError: As `race_recipe`.
    """
    section = _race_section(recipe)
    plan = plan_race(_arms(section), section.budgets, section.seeds, section.baseline, section.primary, section.curve)
    return most_telling_first(plan) if limited else plan.runs


def arm_recipe(recipe: Recipe, arm: str) -> Recipe:
    """The variation of a recipe that an arm stands for, without the race.

    Raises:
        RecipeError: An override does not fit.
    """
    settings = _race_section(recipe)
    overrides = settings.overrides(arm)
    if settings.curve == "cyclic":  # for now a length that whole cycles make; each run has its own
        overrides |= _length(recipe, min(settings.budgets))
    return varied(recipe.model_copy(update={"race": None}), overrides, f"race.arms.{arm}.set")


def run_recipe(arm: Recipe, budget: float, seed: int) -> Recipe:
    """An arm's recipe at one budget with one seed."""
    return varied(arm, {**_length(arm, budget), "train.seed": seed}, "race.budgets")


def shorter_runs(recipe: Recipe, folder: Path, run: Run) -> list[Path]:
    """The run folders of the shorter runs from which a run of a cyclic race can go on, the shortest first.

    Returns:
        None of them for a race with separate runs.
    """
    settings = _race_section(recipe)
    budgets = settings.arms[run.arm].budgets or settings.budgets
    shorter = sorted(budget for budget in budgets if budget < run.budget) if settings.curve == "cyclic" else []
    return [run_folder(folder, run.arm, budget, run.seed) for budget in shorter]


def budget_unit(recipe: Recipe) -> str:
    """What budgets count: `epochs` or `steps`, whichever the recipe trains by."""
    return "epochs" if recipe.train.epochs is not None else "steps"


def _length(recipe: Recipe, budget: float) -> dict[str, float]:
    """The override that makes a recipe train for a budget."""
    unit = budget_unit(recipe)
    return {f"train.{unit}": int(budget) if unit == "steps" else budget}


def _arms(settings: Race) -> list[Arm]:
    return [
        Arm(
            name=name,
            description=arm.description,
            overrides=settings.overrides(name),
            budgets=arm.budgets,
            seeds=arm.seeds,
        )
        for name, arm in settings.arms.items()
    ]


@dataclass
class _Runner:
    """The function that is raced: trains here, in one of the pool's processes, or on the cluster."""

    recipe: Recipe
    arms: Mapping[str, Recipe]
    folder: Path
    paths: Mapping[str, Path]
    watcher: Watcher
    pool: Workers | Cluster | None

    def __call__(self, arm: str, budget: float, seed: int) -> RunRecord:
        made, place = run_recipe(self.arms[arm], budget, seed), run_folder(self.folder, arm, budget, seed)
        labels = {"arm": arm, "budget": budget, "seed": seed, "folder": place.relative_to(self.folder).as_posix()}
        settings: dict[str, Any] = {
            "teacher_paths": self.paths,
            "labels": labels,
            "shorter": shorter_runs(self.recipe, self.folder, Run(arm, budget, seed)),
            "preemptible": True,
        }
        if self.pool is None:
            return train(made, place, progress=self.watcher.step, **settings)
        return self.pool.call(train, made, place, **settings)

    def stop(self) -> None:
        """Have the runs in other processes of this machine leave by a checkpoint; a cluster stops its own."""
        if isinstance(self.pool, Workers):
            self.pool.stop()


def _train_teachers(
    taught: Mapping[str, Recipe], folder: Path, watcher: Watcher, workers: int, cluster: Cluster | None
) -> dict[str, Path]:
    """One after the other here, side by side on a cluster."""
    if cluster is None:
        return train_teachers(taught, folder, watcher=watcher)
    paths = {name: folder / name for name in taught}
    with ThreadPoolExecutor(workers) as threads:
        jobs = [threads.submit(cluster.call, train, made, paths[name]) for name, made in taught.items()]
        for job in jobs:
            job.result()
    return paths


def _environment() -> dict[str, str]:
    return environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _race_section(recipe: Recipe) -> Race:
    if recipe.race is None:
        raise RecipeError(
            f"{recipe.name}: the recipe has no race section; add budgets, seeds, arms and the primary arm"
        )
    return recipe.race
