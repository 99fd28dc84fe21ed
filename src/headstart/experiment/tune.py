"""Each arm of a race gets settings of its own, by short runs on training samples that no race is judged by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from headstart.errors import Diverged, RecipeError
from headstart.experiment.arms import race_section
from headstart.experiment.ray_cluster import Cluster
from headstart.experiment.train_teachers import needed
from headstart.experiment.trials import PlannedTrial, chosen_settings, planned_trials
from headstart.experiment.worker_processes import Workers
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, Trial, Tuning, read_record, write_record
from headstart.teachers import find_teacher
from headstart.teachers.find import RECORD
from headstart.train import ranks
from headstart.train.run import train
from headstart.train.state.run_folder import RECIPE, same_recipe
from headstart.train.watcher import Watcher

DIVERGED = "diverged.json"

Job = TypeVar("Job")
Result = TypeVar("Result")


def tune(
    recipe: Recipe,
    folder: Path,
    paths: Mapping[str, Path],
    watcher: Watcher,
    workers: int = 1,
    pool: Workers | Cluster | None = None,
) -> Tuning | None:
    """Do the trials that a race still lacks, and choose. What is finished is not done again.

    Args:
        recipe: With a `race` section.
        folder: The race folder; trials are run folders in its `tuning`.
        paths: Run folders of the teachers that the recipe describes.
        watcher: Told what happens.
        workers: How many trials go on at once.
        pool: Where they train. Default: here.

    Returns:
        What was tried and chosen; None where no arm is tuned.

    Raises:
        Preempted: SIGTERM or Ctrl-C came, and checkpoints are written.
        RaceError: Training diverged with all settings of an arm.
        HeadstartError: A trial failed in another way.
    """
    planned = planned_trials(recipe)

    def do(trial: PlannedTrial) -> Trial:
        if (known := finished_trial(trial, folder)) is not None:
            return known
        if pool is not None:
            found = pool.call(run_trial, trial, folder, paths)
        else:
            watcher.training(f"tuning {trial.told}")
            found = run_trial(trial, folder, paths, progress=watcher.step)
        reached = "diverged" if found.quality is None else f"{found.quality:.4f}"
        watcher.note(f"tuned {trial.told}: {reached}")
        return found

    trials = _side_by_side(planned, do, workers, pool)
    return tuning_of(recipe, folder, planned, trials)


def tuning_of(
    recipe: Recipe,
    folder: Path,
    planned: Sequence[PlannedTrial],
    trials: Sequence[Trial],
    *,
    arms: Sequence[str] | None = None,
) -> Tuning | None:
    """The record of finished trials, and what they make of the arms; None where no arm is tuned.

    Args:
        recipe: With a `race` section.
        folder: The race folder.
        planned: The trials.
        trials: What became of them.
        arms: Those that choose. Default: all.

    Raises:
        RaceError: Training diverged with all settings of an arm.
    """
    records = (path for trial in planned if (path := folder / trial.part / RECORD).exists())
    first = next((read_record(RunRecord, path) for path in records), None)
    metric = {} if first is None else {"metric": first.metric, "higher_is_better": first.higher_is_better}
    higher = first is None or first.higher_is_better
    chosen = chosen_settings(recipe, arms or list(race_section(recipe).arms), trials, higher_is_better=higher)
    if not chosen:
        return None
    return Tuning(
        trials=list(trials),
        chosen=chosen,
        budget=race_section(recipe).trial_budget,
        samples=getattr(recipe.data, "tuning", 0),
        **metric,
    )


def run_trial(trial: PlannedTrial, folder: Path, paths: Mapping[str, Path], **settings: Any) -> Trial:
    """Train a trial; one that diverges is a finished trial, too, and is not done again.

    Args:
        trial: Which.
        folder: The race folder.
        paths: Run folders of the teachers that the recipe describes.
        settings: As `train` takes them.

    Raises:
        HeadstartError: As `train`.
    """
    place, begin = folder / trial.part, time.monotonic()
    try:
        record = train(trial.recipe, place, teacher_paths=paths, preemptible=True, **settings)
    except Diverged as error:
        seconds = time.monotonic() - begin
        found = Trial(arm=trial.arm, values=dict(trial.values), seed=trial.seed, seconds=seconds, failure=str(error))
        if ranks.is_main():
            write_record(found, place / DIVERGED)
        return found
    return _told_by(trial, record)


def finished_trial(trial: PlannedTrial, folder: Path) -> Trial | None:
    """A trial that was done before, with the recipe that it has now."""
    place = folder / trial.part
    if not (place / RECIPE).exists() or not same_recipe(place / RECIPE, trial.recipe):
        return None
    if (place / DIVERGED).exists():
        return read_record(Trial, place / DIVERGED)
    return _told_by(trial, read_record(RunRecord, place / RECORD)) if (place / RECORD).exists() else None


def refuse_seen(trials: Sequence[PlannedTrial], taught: Mapping[str, Recipe]) -> None:
    """Refuse older models that have trained on the samples to tune by, so that these look easier with them.

    Of a model from a library nobody knows it.

    Args:
        trials: What is to be tried.
        taught: Recipes of the teachers that are trained first.

    Raises:
        RecipeError: One has; names it.
    """
    for trial in trials:
        own = trial.recipe.data.model_dump()
        for spec in needed(trial.recipe):
            made = taught[spec].data.model_dump() if spec in taught else _data_of(spec)
            if _has_seen(made, own):
                raise RecipeError(
                    f"race.tune: {spec} was trained on the {own['tuning']} samples of data.tuning, by which the arms "
                    "choose their settings; train it without them, with the same data.holdout and data.tuning (the "
                    "recipe's teachers have those of the recipe unless they set others)"
                )


def _data_of(spec: str) -> Mapping[str, Any]:
    """What an earlier run was trained on; empty where nobody knows."""
    record = find_teacher(spec).record
    data = record.settings.get("data") if record is not None else None
    return data if isinstance(data, Mapping) else {}


def _has_seen(data: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    if not data or any(data.get(key) != own.get(key) for key in ("name", "subset")):
        return False
    same_draw = all((data.get(key) or 0) == (own.get(key) or 0) for key in ("holdout", "documents"))
    return not same_draw or data.get("tuning", 0) < own["tuning"]


def _told_by(trial: PlannedTrial, record: RunRecord) -> Trial:
    return Trial(
        arm=trial.arm,
        values=dict(trial.values),
        seed=trial.seed,
        quality=record.quality,
        seconds=record.seconds,
        flops=record.flops,
    )


def _side_by_side(
    jobs: Sequence[Job], do: Callable[[Job], Result], workers: int, pool: Workers | Cluster | None
) -> list[Result]:
    """All results; where one job fails, those under way leave by a checkpoint."""
    if workers == 1:
        return [do(job) for job in jobs]
    threads = ThreadPoolExecutor(workers)
    try:
        return [done.result() for done in [threads.submit(do, job) for job in jobs]]
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        if isinstance(pool, Workers):
            pool.stop()
        raise
    finally:
        threads.shutdown(cancel_futures=True)
