"""The pool of a recipe's teachers: live, or their cached targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from headstart.distill import Teacher, TeacherPool
from headstart.distill.targets.source import TargetSource, numbered
from headstart.errors import TeacherError
from headstart.recipe.recipe import Recipe
from headstart.tasks import Task
from headstart.teachers import TeacherEntry, load_teacher
from headstart.train.setup.build_task import check_teacher, student_side
from headstart.train.setup.cached_targets import cached_teachers


def load_pool(
    recipe: Recipe, paths: Mapping[str, Path], task: Task, device: torch.device, *, autocast: torch.dtype | None
) -> TeacherPool | None:
    """Load the teachers that a recipe names.

    Args:
        recipe: What is trained.
        paths: Run folders of the teachers that the recipe describes.
        task: The student's.
        device: Where it trains.
        autocast: What the student is computed in; the teachers too, unless their options say otherwise.

    Returns:
        The pool; None where the recipe does not distil.

    Raises:
        TeacherError: A teacher, or its cached targets, cannot be read or do not fit.
    """
    distill = recipe.distill
    if distill is None:
        return None

    def load(entry: TeacherEntry) -> Teacher:
        return load_one(entry, paths, task, autocast=autocast, logits=distill.of_logits)

    teachers: Iterable[TargetSource]
    if distill.cache is not None:
        named = dict(zip(numbered(distill.specs), distill.teachers, strict=True))  # as a pool of live ones names them
        there = {name: Path(entry.spec).expanduser().exists() for name, entry in named.items()}
        at_hand = {name: entry for name, entry in named.items() if entry.spec in paths or there[name]}
        live = {name: load(entry) for name, entry in at_hand.items()}
        teachers = cached_teachers(distill.cache, list(named), live, recipe, task)
    else:
        teachers = map(load, distill.teachers)  # one by one: a pool that streams puts each away before the next comes
    assert distill.weights != "auto"
    pool = TeacherPool(
        teachers,
        draw=distill.draw,
        weights=distill.weights,
        seed=recipe.train.seed,
        per_rank=distill.per_rank,
        residence=distill.residence,
        spool=distill.spool,
    )
    sample = task.batch(0, recipe.train.batch_size, parts=recipe.train.batch_size).inputs
    for teacher in pool.live if distill.of_logits else []:
        pool.bring(teacher, device)
        _require_fitting(teacher, sample, task.num_classes)
    return pool


def load_one(
    entry: TeacherEntry, paths: Mapping[str, Path], task: Task, *, autocast: torch.dtype | None, logits: bool = True
) -> Teacher:
    """Load a teacher that a recipe names.

    Args:
        entry: What the recipe says of it.
        paths: As in `load_pool`, and so the next ones.
        task: The student's.
        autocast: What the student is computed in.
        logits: Whether it must give any.

    Raises:
        TeacherError: It cannot be read or does not fit.
    """
    place = paths.get(entry.spec, entry.spec)
    side = {**student_side(task), "autocast": autocast, "logits": logits}
    teacher = load_teacher(place, name=entry.spec, options=entry, **side)
    check_teacher(task, teacher)
    return teacher


def _require_fitting(teacher: Teacher, sample: Any, classes: int) -> None:
    """A teacher that does not fit fails here, and not at the window's opening."""
    logits = teacher.logits(sample)
    if logits.shape[-1] != classes:
        raise TeacherError(
            f"teacher {teacher.name!r} has {logits.shape[-1]} classes, the student {classes}; "
            "both must be trained on the same classes"
        )
