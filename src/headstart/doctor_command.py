"""What `headstart doctor` does with a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill import Teacher, TeacherPool
from headstart.errors import RecipeError, TeacherError
from headstart.tasks import Task
from headstart.teachers import load_teacher
from headstart.teachers.doctor import Check, doctor
from headstart.teachers.doctor.check import Status
from headstart.teachers.find import WEIGHTS
from headstart.train.kinds import window_of
from headstart.train.recipe import Distill, Recipe
from headstart.train.session import Session
from headstart.train.task import student_side

_BATCHES = 4


def doctor_recipe(recipe: Recipe, teachers: Path) -> list[Check]:
    """Test a recipe's distillation on its first batches.

    Args:
        recipe: With a `distill` section.
        teachers: Folder of the teachers that the recipe trains itself, each in a run folder of its name. Those that are
            not there yet are named and left out.

    Returns:
        The checks; a teacher that cannot be loaded is one that fails.

    Raises:
        RecipeError: The recipe does not distil, or trains nothing.
        HeadstartError: Data or student cannot be had.
    """
    if recipe.distill is None:
        raise RecipeError("distill=null: there is nothing to examine; give a recipe that distils")
    session = Session(recipe.model_copy(update={"distill": None}))
    found, loaded = _load(recipe, recipe.distill, teachers, session)
    if not loaded:
        return found
    mean, std = (student_side(session.task).get(key) for key in ("mean", "std"))
    size = recipe.train.batch_size
    return found + doctor(
        session.model,
        TeacherPool(loaded, draw="all" if recipe.distill.draw == "all" else min(recipe.distill.draw, len(loaded))),
        [_batch(session.task, step, size) for step in range(_BATCHES)],
        forward=lambda model, inputs: _forward(session, model, inputs),
        normalisation=(mean, std) if mean is not None and std is not None else None,
        window=window_of(recipe.distill),
        loss=recipe.distill.loss,
        temperature=recipe.distill.temperature,
        weight=recipe.distill.weight,
        standardize=recipe.distill.standardize,
        parts=[_batch(session.task, 0, size, part) for part in range(2)] if size % 2 == 0 else None,
    )


def _load(recipe: Recipe, distill: Distill, folder: Path, session: Session) -> tuple[list[Check], list[Teacher]]:
    """The teachers that are at hand, and a check for each that is not."""
    checks, teachers = [], []
    autocast = torch.bfloat16 if recipe.train.precision == "bf16" else None
    side: Mapping[str, Any] = student_side(session.task)
    for entry in distill.teachers:
        place = folder / entry.spec if entry.spec in recipe.teachers else entry.spec
        if isinstance(place, Path) and not (place / WEIGHTS).is_file():
            advice = f"train it first (headstart train or race), or give the folder where it is; looked in {folder}"
            checks.append(_at_hand("warn", "the recipe trains it first, and has not finished", advice, entry.spec))
            continue
        try:
            teachers.append(load_teacher(place, name=entry.spec, autocast=autocast, options=entry, **side))
        except TeacherError as error:
            checks.append(_at_hand("fail", str(error), "give another teacher or options that fit", entry.spec))
    return checks, teachers


def _at_hand(status: Status, finding: str, advice: str, teacher: str) -> Check:
    return Check(name="at hand", status=status, finding=finding, advice=advice, teacher=teacher)


def _batch(task: Task, step: int, size: int, part: int | None = None) -> tuple[Any, Tensor]:
    batch = task.batch(step, size) if part is None else task.batch(step, size, part=part, parts=2)
    return batch.inputs, batch.labels


def _forward(session: Session, model: nn.Module, inputs: Any) -> Tensor:
    """As in training."""
    with torch.autocast(session.device.type, torch.bfloat16, enabled=session.recipe.train.precision == "bf16"):
        return session.task.forward(model, inputs)
