"""What `headstart doctor` does with a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.commands.doctor_init import examine_init
from headstart.distill import Teacher, TeacherPool
from headstart.distill.projection import as_logits
from headstart.errors import HeadstartError, RecipeError, TeacherError
from headstart.precision import AUTOCAST
from headstart.recipe.automatic import provisional
from headstart.recipe.distill_section import Distill
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import window_of
from headstart.tasks import Task
from headstart.teachers import load_teacher
from headstart.teachers.doctor import Check, doctor
from headstart.teachers.doctor.check import Status, passed
from headstart.teachers.find import WEIGHTS
from headstart.train.session import Session
from headstart.train.setup.build_task import student_side

_BATCHES = 4


def doctor_recipe(recipe: Recipe, teachers: Path) -> list[Check]:
    """Test a recipe's distillation on its first batches.

    Args:
        recipe: With a `distill` section, an `init` section, or both.
        teachers: Folder of the teachers that the recipe trains itself, each in a run folder of its name. Those that are
            not there yet are named and left out.

    Returns:
        The checks, the init's first; a teacher that cannot be loaded is one that fails. Where targets are cached, the
        cache is examined as a run would before its first step, and so are the teachers that are at hand nevertheless.

    Raises:
        RecipeError: The recipe neither distils nor starts from an older model, or trains nothing.
        HeadstartError: Data or student cannot be had.
    """
    if recipe.distill is None and recipe.init is None:
        raise RecipeError("distill=null, init=null: there is nothing to examine; give a recipe that reuses a model")
    session = Session(recipe.model_copy(update={"distill": None}), initialise=False)
    first = [] if recipe.init is None else [examine_init(recipe, session, teachers)]
    if recipe.distill is None:
        return first
    return [*first, *_distilled(recipe, provisional(recipe.distill), teachers, session)]


def _distilled(recipe: Recipe, distill: Distill, teachers: Path, session: Session) -> list[Check]:
    found, loaded = _load(recipe, distill, teachers, session)
    if distill.cache is not None:
        found.append(_cached(recipe, distill.cache, teachers))
    if loaded and distill.hidden is not None:
        found.append(_aligned(recipe, teachers))
    if loaded and distill.of_logits:
        found += _examine(recipe, distill, loaded, session)
    return found


def _examine(recipe: Recipe, distill: Distill, teachers: list[Teacher], session: Session) -> list[Check]:
    mean, std = (student_side(session.task).get(key) for key in ("mean", "std"))
    size = recipe.train.batch_size
    assert distill.temperature != "auto" and distill.weight != "auto"
    found = doctor(
        session.model,
        TeacherPool(teachers, draw="all" if distill.draw == "all" else min(distill.draw, len(teachers))),
        [_batch(session.task, step, size) for step in range(_BATCHES)],
        forward=lambda model, inputs: _forward(session, model, inputs),
        normalisation=(mean, std) if mean is not None and std is not None else None,
        window=window_of(distill),
        loss=distill.loss,
        temperature=distill.temperature,
        weight=distill.weight,
        standardize=distill.standardize,
        parts=[_batch(session.task, 0, size, part) for part in range(2)] if size % 2 == 0 else None,
    )
    # What a teacher's forward costs is of no account where none is made.
    return found if distill.cache is None else [check for check in found if check.name != "cost"]


def _load(recipe: Recipe, distill: Distill, folder: Path, session: Session) -> tuple[list[Check], list[Teacher]]:
    """The teachers that are at hand, and a check for each that is not."""
    checks, teachers = [], []
    autocast = AUTOCAST[session.recipe.train.precision]
    side: Mapping[str, Any] = student_side(session.task)
    for entry in distill.teachers:
        place = folder / entry.spec if entry.spec in recipe.teachers else entry.spec
        missing = isinstance(place, Path) and not (place / WEIGHTS).is_file()
        if distill.cache is not None and (missing or not Path(place).exists()):
            continue  # no run will ask it
        if missing:
            advice = f"train it first (headstart train or race), or give the folder where it is; looked in {folder}"
            checks.append(_at_hand("warn", "the recipe trains it first, and has not finished", advice, entry.spec))
            continue
        try:
            teachers.append(
                load_teacher(place, name=entry.spec, autocast=autocast, options=entry, logits=distill.of_logits, **side)
            )
        except TeacherError as error:
            checks.append(_at_hand("fail", str(error), "give another teacher or options that fit", entry.spec))
    return checks, teachers


def _cached(recipe: Recipe, cache: str, folder: Path) -> Check:
    """Whether a run could read its targets, from the first distilled step to the last."""
    begun = _begun(
        recipe,
        folder,
        "cached targets",
        "make the cache for this recipe: headstart cache; it goes on where it stopped",
    )
    if isinstance(begun, Check):
        return begun
    return passed("cached targets", f"{cache} has them for all distilled steps, of these data and teachers")


def _aligned(recipe: Recipe, folder: Path) -> Check:
    """Whether the layers are there, and see as many rows."""
    advice = "name other layers in distill.hidden.student and distill.hidden.teacher"
    begun = _begun(recipe, folder, "hidden states", advice)
    if isinstance(begun, Check):
        return begun
    hidden = begun.hidden
    assert hidden is not None
    weight = hidden.projection
    map_ = (
        "of equal width" if weight is None else f"by a linear map from {weight.shape[1]} to {weight.shape[0]} features"
    )
    return passed("hidden states", f"{hidden.layer} of the student learns from {hidden.teacher_layer}, {map_}")


def _begun(recipe: Recipe, folder: Path, name: str, advice: str) -> Session | Check:
    """The recipe's session, or what it fails of; the same one without distillation has begun."""
    paths = {spec: folder / spec for spec in recipe.teachers if (folder / spec / WEIGHTS).is_file()}
    try:
        return Session(recipe, paths, initialise=False)
    except HeadstartError as error:
        return Check(name=name, status="fail", finding=str(error), advice=advice)


def _at_hand(status: Status, finding: str, advice: str, teacher: str) -> Check:
    return Check(name="at hand", status=status, finding=finding, advice=advice, teacher=teacher)


def _batch(task: Task, step: int, size: int, part: int | None = None) -> tuple[Any, Tensor]:
    batch = task.batch(step, size) if part is None else task.batch(step, size, part=part, parts=2)
    return batch.inputs, batch.labels


def _forward(session: Session, model: nn.Module, inputs: Any) -> Tensor:
    """As in training."""
    dtype = AUTOCAST[session.recipe.train.precision]
    with torch.autocast(session.device.type, dtype, enabled=dtype is not None):
        return as_logits(session.task.forward(model, inputs))
