"""The race of a recipe: its arms at its budgets with its seeds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import torch

from headstart.errors import RecipeError
from headstart.race import RaceFunction, Run, plan_race, race, run_folder
from headstart.records import Arm, Calibration, RaceRecord, RunRecord
from headstart.train.calibrate import calibrate
from headstart.train.cluster import Cluster
from headstart.train.environment import environment
from headstart.train.judging import check_judging
from headstart.train.load import dump_recipe, varied
from headstart.train.race_section import Race
from headstart.train.recipe import Recipe
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.teaching import teacher_recipes, train_teachers
from headstart.train.trackers import track_race
from headstart.train.watcher import SilentWatcher, Watcher
from headstart.train.workers import Workers


def race_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    watcher: Watcher | None = None,
    command: str = "",
    workers: int = 1,
    cluster: Cluster | None = None,
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

    Raises:
        HeadstartError: There is no `race` section, or an arm's overrides, the data, a budget or a teacher do not fit;
            before anything is trained.
    """
    folder, settings, watcher = Path(folder), _race_section(recipe), watcher or SilentWatcher()
    arms = {name: arm_recipe(recipe, name) for name in settings.arms}
    taught = teacher_recipes(recipe, arms.values())
    if not (folder / "race.json").exists():
        firsts = {run.arm: run for run in reversed(planned_runs(recipe))}.values()
        _rehearse([run_recipe(arms[run.arm], run.budget, run.seed) for run in firsts], taught)
    paths = _train_teachers(taught, folder / "teachers", watcher, workers, cluster)

    def measure() -> Calibration:
        raced, pairs = [*arms.values(), *taught.values()], settings.calibration_pairs
        if cluster is not None:
            return cluster.call(calibrate, raced, teacher_paths=paths, pairs=pairs)
        return calibrate(raced, teacher_paths=paths, pairs=pairs, progress=watcher.calibration_step)

    with ExitStack() as stack:
        pool = stack.enter_context(Workers(workers)) if workers > 1 and cluster is None else cluster
        record = race(
            _runner(arms, folder, paths, watcher, pool),
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
        )
    track_race(record, recipe, folder)
    return record


def race_definition(recipe: Recipe) -> str:
    """What must not change while a recipe is raced: all but the race section, as more budgets are the same race."""
    return dump_recipe(recipe.model_copy(update={"race": None}))


def planned_runs(recipe: Recipe) -> list[Run]:
    """The runs of a recipe's race, in their order.

    Raises:
        HeadstartError: As `race_recipe`.
    """
    settings = _race_section(recipe)
    return plan_race(_arms(settings), settings.budgets, settings.seeds, settings.baseline, settings.primary).runs


def arm_recipe(recipe: Recipe, arm: str) -> Recipe:
    """The variation of a recipe that an arm stands for, without the race.

    Raises:
        RecipeError: An override does not fit.
    """
    overrides = _race_section(recipe).arms[arm].set
    return varied(recipe.model_copy(update={"race": None}), overrides, f"race.arms.{arm}.set")


def run_recipe(arm: Recipe, budget: float, seed: int) -> Recipe:
    """An arm's recipe at one budget with one seed."""
    length = int(budget) if budget_unit(arm) == "steps" else budget
    return varied(arm, {f"train.{budget_unit(arm)}": length, "train.seed": seed}, "race.budgets")


def budget_unit(recipe: Recipe) -> str:
    """What budgets count: `epochs` or `steps`, whichever the recipe trains by."""
    return "epochs" if recipe.train.epochs is not None else "steps"


def _arms(settings: Race) -> list[Arm]:
    return [
        Arm(name=name, description=arm.description, overrides=arm.set, budgets=arm.budgets, seeds=arm.seeds)
        for name, arm in settings.arms.items()
    ]


def _runner(
    arms: Mapping[str, Recipe],
    folder: Path,
    paths: Mapping[str, Path],
    watcher: Watcher,
    pool: Workers | Cluster | None,
) -> RaceFunction:
    """The function that is raced: trains here, in one of the pool's processes, or on the cluster."""

    def run(arm: str, budget: float, seed: int) -> RunRecord:
        recipe, place = run_recipe(arms[arm], budget, seed), run_folder(folder, arm, budget, seed)
        labels = {"arm": arm, "budget": budget, "seed": seed, "folder": place.relative_to(folder).as_posix()}
        if pool is None:
            return train(recipe, place, teacher_paths=paths, progress=watcher.step, labels=labels)
        return pool.call(train, recipe, place, teacher_paths=paths, labels=labels)

    return run


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


def _rehearse(runs: Iterable[Recipe], taught: Container[str]) -> None:
    """Bring runs to life without training them: what is wrong is then said before the first step, and not by each run.

    Runs whose teachers are still to be trained go without.
    """
    for run in runs:
        ready = run.distill is None or not any(name in taught for name in run.distill.specs)
        check_judging(run)
        Session(run if ready else run.model_copy(update={"distill": None}))
