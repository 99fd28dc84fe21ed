"""Cached targets in a run: what they depend on, and whether they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.cache import Batches, CachedTeacher, fingerprint
from headstart.config import defaults_of
from headstart.distill import Teacher, Window
from headstart.distill.targets.source import Keys
from headstart.recipe.recipe import Recipe
from headstart.tasks import Task

_NO_INPUTS = {"evaluate", "evaluate_sequences", "evaluate_size", "workers"}
_INPUTS = {"task", "classes", "mean", "std", "vocabulary", "length"}


def data_settings(recipe: Recipe, task: Task) -> dict[str, Any]:
    """The settings that a run's inputs depend on: data, augmentation or masking, vocabulary, and their seed.

    The model is none of them, nor is the seed of its weights, so that many students can share a cache.
    """
    data = recipe.data.model_dump(mode="json", exclude=_NO_INPUTS)
    seed = data.pop("seed", None)
    name = Path(str(data.pop("name"))).name  # wherever it lies
    described = {key: value for key, value in task.describe().items() if key in _INPUTS}
    return {"name": name, "seed": recipe.train.seed if seed is None else seed, **data, **described}


def cached_teachers(
    folder: str, names: Sequence[str], live: Mapping[str, Teacher], recipe: Recipe, task: Task
) -> list[CachedTeacher]:
    """What stands in for live teachers in a run that reads its targets from a cache.

    Args:
        folder: The cache folder.
        names: The teachers', as the pool that was cached had them.
        live: Those of them that are at hand, by name: their weights are compared with those that were cached.
        recipe: Of this run.
        task: Of this run.

    Raises:
        TeacherError: A teacher's targets are not there, are damaged, or are of other weights or other data.
    """
    settings, defaults = data_settings(recipe, task), defaults_of(type(recipe.data))
    return [
        CachedTeacher(folder, name, expected=fingerprint(live.get(name), task, settings, defaults)) for name in names
    ]


def distilled_batches(recipe: Recipe, task: Task, window: Window, total_steps: int, processes: int) -> Batches:
    """The batches that a run distils on."""
    steps = [step for step in range(total_steps) if window.scale(step, total_steps) > 0.0]
    return Batches(task, steps, recipe.train.batch_size, recipe.train.accumulate * processes)


def require_targets(teachers: Sequence[CachedTeacher], batches: Batches) -> None:
    """Make sure, before the first step, that the cache reaches to the last one.

    Raises:
        TeacherError: It does not: the run is longer, its window is wider, or its batches are others.
    """
    plan = batches.plan
    for step, part in {*plan[:2], *plan[-2:]}:
        batch = batches.batch(step, part)
        for teacher in teachers:
            teacher.require(Keys(batch.samples, batch.epoch))
