"""Cached targets in a run: what they depend on, and whether they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.cache import Batches, CachedTeacher, EachView, fingerprint
from headstart.config import defaults_of
from headstart.distill import Teacher, Window
from headstart.distill.targets.source import Keys
from headstart.recipe.recipe import Recipe
from headstart.tasks import FewViews, Task

_NO_INPUTS = {"evaluate", "evaluate_sequences", "evaluate_size", "workers"}
_INPUTS = {"task", "classes", "mean", "std", "vocabulary", "length"}


def few_views(task: Task) -> FewViews | None:
    """The task, where a cache can hold all views of its samples."""
    return task if isinstance(task, FewViews) and task.views is not None else None


def data_settings(recipe: Recipe, task: Task, *, by_view: bool = False) -> dict[str, Any]:
    """The settings that a run's inputs depend on: data, augmentation or masking, vocabulary, and their seed.

    The model is none of them, nor is the seed of its weights, so that many students can share a cache; nor, of a cache
    that holds every view of every sample, the seed that says which one comes when; there the number of samples counts.
    """
    data = recipe.data.model_dump(mode="json", exclude=_NO_INPUTS)
    seed = data.pop("seed", None)
    name = Path(str(data.pop("name"))).name  # wherever it lies
    described = {key: value for key, value in task.describe().items() if key in _INPUTS}
    drawn = {"samples": task.samples} if by_view else {"seed": recipe.train.seed if seed is None else seed}
    return {"name": name, **drawn, **data, **described}


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
    defaults, few = defaults_of(type(recipe.data)), few_views(task)
    found = []
    for name in names:
        teacher = CachedTeacher(folder, name, view_of=None if few is None else few.view_of)
        by_view = teacher.views is not None
        maker = EachView(few) if by_view and few is not None else task
        settings = data_settings(recipe, task, by_view=by_view)
        teacher.check_fit(fingerprint(live.get(name), maker, settings, defaults))
        found.append(teacher)
    return found


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
