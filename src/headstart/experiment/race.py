"""The race of a recipe: its arms at its budgets with its seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.experiment.arms import (
    arm_recipe,
    budget_unit,
    decided_arms,
    planned_runs,
    race_arms,
    race_definition,
    race_section,
    run_recipe,
    shorter_runs,
)
from headstart.experiment.calibrate import calibrate
from headstart.experiment.earlier import EarlierRuns
from headstart.experiment.ray_cluster import Cluster
from headstart.experiment.train_teachers import rehearse, teacher_recipes, train_teachers, trained_before
from headstart.experiment.trials import PlannedTrial, planned_trials, tuned_recipe
from headstart.experiment.tune import refuse_seen, tune
from headstart.experiment.worker_processes import Workers, threads_of_a_worker
from headstart.race import Run, race, race_alone, run_folder
from headstart.race.definition import begun_recipe
from headstart.race.run_names import run_part
from headstart.recipe.recipe import Recipe
from headstart.records import Calibration, RaceRecord, RunRecord
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
    """Train the teachers, tune the arms, race, calibrate step times and judge. What is finished is not done again.

    Args:
        recipe: With a `race` section.
        folder: The race folder: teachers, trials, runs, `race.json`.
        watcher: Told what happens. Default: nothing is.
        command: For the record.
        workers: Runs trained at once, each in a process with its share of the cores; see `Workers`. The watcher is then
            told of a teacher's steps only.
        cluster: Where teachers and runs are trained and step times calibrated, `workers` at once. Default: here.
        hours: How long teachers, trials and runs may take, as in `race`; the calibration comes on top.

    Raises:
        Preempted: SIGTERM or Ctrl-C came, and the checkpoint of what was in training is written.
        HeadstartError: There is no `race` section, an arm's overrides, the data, a budget or a teacher do not fit, or
            another race goes on in the folder; before anything is trained.
    """
    begin = time.monotonic()
    folder, settings, watcher = Path(folder), race_section(recipe), watcher or SilentWatcher()
    recipe, told = settled_race(recipe, folder) if cluster is None else cluster.call(settled_race, recipe, folder)
    watcher.note(told)
    trials, taught = planned_trials(recipe), taught_first(recipe)
    if not (folder / "race.json").exists():
        _rehearse(recipe, trials, taught)
    with ExitStack() as stack:
        stack.enter_context(race_alone(folder))
        paths = _train_teachers(taught, folder / "teachers", watcher, workers, cluster)
        pool = stack.enter_context(Workers(workers)) if workers > 1 and cluster is None else cluster
        tuning = tune(recipe, folder, paths, watcher, workers, pool)
        if tuning is not None:
            recipe = tuned_recipe(recipe, tuning.chosen)
        arms = {name: arm_recipe(recipe, name) for name in settings.arms}

        def measure() -> Calibration:
            raced = [*decided_arms(recipe, arms, folder), *taught.values()]
            how: dict[str, Any] = {"teacher_paths": paths, "pairs": settings.calibration_pairs}
            how["at_hand"] = trained_before(arms.values(), taught)
            if cluster is not None:
                return cluster.call(calibrate, raced, **how)
            with threads_of_a_worker(workers):  # as the runs: another number would time other steps
                return calibrate(raced, progress=watcher.calibration_step, **how)

        record = race(
            _Runner(recipe, arms, folder, paths, watcher, pool),
            arms=race_arms(race_section(recipe)),
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
            tuning=tuning,
        )
    track_race(record, recipe, folder)
    return record


def taught_first(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes of the teachers that a race trains first, for its arms and their trials, by name.

    Raises:
        HeadstartError: As `teacher_recipes`, or what the race says does not fit.
    """
    arms, trials = race_section(recipe).arms, planned_trials(recipe)
    taught = teacher_recipes(
        recipe, [*(arm_recipe(recipe, name) for name in arms), *(trial.recipe for trial in trials)]
    )
    refuse_seen(trials, taught)
    return taught


def _rehearse(recipe: Recipe, trials: Sequence[PlannedTrial], taught: Mapping[str, Recipe]) -> None:
    """The first run of each arm, and the first trial: on other data, by which it is judged."""
    runs = [(run.arm, run_recipe(arm_recipe(recipe, run.arm), run.budget, run.seed)) for run in planned_runs(recipe)]
    rehearse([*dict(reversed(runs)).values(), *(trial.recipe for trial in trials[:1])], taught)


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
    """The text of its recipe, or else of a trial's, where a race has come no further."""
    begun = [*sorted(folder.glob(f"teachers/*/{RECIPE}")), *sorted(folder.glob(f"tuning/*/{RECIPE}"))]
    path = next(iter(begun), None)
    return "" if path is None else path.read_text(encoding="utf-8")


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
        labels = {"arm": arm, "budget": budget, "seed": seed, "folder": run_part(arm, budget, seed)}
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
