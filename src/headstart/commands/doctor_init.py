"""What the doctor says of a student's start from an older model."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from headstart.errors import HeadstartError
from headstart.recipe.recipe import Recipe
from headstart.records import InitRecord
from headstart.teachers.doctor import Check
from headstart.teachers.doctor.check import passed
from headstart.teachers.find import WEIGHTS
from headstart.train.session import Session
from headstart.train.setup.initial_weights import start_from

_NAME = "init"
_BATCHES = 4


def examine_init(recipe: Recipe, session: Session, teachers: Path) -> Check:
    """How the student starts: its loss right after the init beside that with fresh weights.

    Args:
        recipe: With an `init` section.
        session: Of the recipe, whose student has fresh weights; it is not changed.
        teachers: Folder of the models that the recipe trains itself.
    """
    assert recipe.init is not None
    spec = recipe.init.source
    path = teachers / spec if spec in recipe.teachers else None
    if path is not None and not (path / WEIGHTS).is_file():
        advice = f"train it first (headstart train or race), or give the folder where it is; looked in {teachers}"
        return Check(name=_NAME, status="warn", finding=f"the recipe trains {spec} first, and has not", advice=advice)
    student = copy.deepcopy(session.student)
    fresh = _loss(student, session)
    try:
        initial = start_from(student, recipe, session.task, session.device, path)
    except HeadstartError as error:
        advice = "give another source, or options that fit"
        return Check(name=_NAME, status="fail", finding=str(error), advice=advice)
    assert initial is not None
    return _told(initial, _loss(student, session), fresh)


def _told(initial: InitRecord, inherited: float, fresh: float) -> Check:
    finding = (
        f"loss {inherited:.4g} right after it, {fresh:.4g} with fresh weights; {initial.inherited['share']:.1%} of the "
        f"parameters inherited, in {initial.seconds:.1f} s"
    )
    if inherited < fresh:
        return passed(_NAME, finding)
    advice = (
        "at its first step it is no better than a fresh one. It may still train faster; see that inputs are normalised "
        "and classes named as the source's, or take another way (how, scores, compensate) or source"
    )
    notes = [note for note in initial.inherited.get("notes", ()) if "not preserved" in note]
    return Check(name=_NAME, status="warn", finding=finding, advice="; ".join([advice, *notes]))


@torch.no_grad()
def _loss(student: nn.Module, session: Session) -> float:
    """The task loss on the first batches, in training mode as at the first steps; the student is not changed."""
    model, task, losses = copy.deepcopy(student).train(), session.task, []
    for step in range(_BATCHES):
        batch = task.batch(step, session.recipe.train.batch_size)
        losses.append(float(task.loss(task.forward(model, batch.inputs), batch)))
    return sum(losses) / len(losses)
