"""Which teachers a run asks at which of its steps, and how far their forward goes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from headstart.distill import HiddenLoss, Teacher, Window
from headstart.distill.flops import on_meta
from headstart.distill.hidden.features import Features
from headstart.distill.hidden.states import states_at
from headstart.distill.projection import Logits
from headstart.distill.targets.source import TargetSource
from headstart.recipe.image_sizes import side_of_step
from headstart.tasks.images.progressive import resized
from headstart.train.session import Session


@dataclass(frozen=True)
class AskedTeachers:
    """The teachers of a run.

    Attributes:
        window: When they are asked.
        teachers: Live, or cached.
        chosen: Which are asked at a step, by number.
    """

    window: Window
    teachers: Sequence[TargetSource]
    chosen: Callable[[int], Sequence[int]]


def asked_teachers(session: Session) -> AskedTeachers | None:
    """The teachers that a run asks; None where it asks none."""
    if session.distiller is not None and session.pool is not None:
        return AskedTeachers(session.distiller.window, session.pool.teachers, session.pool.chosen)
    if session.hidden is not None and session.hidden.teacher is not None:
        return AskedTeachers(session.hidden.window, [session.hidden.teacher], lambda step: (0,))
    return None


def teachers_forward(session: Session) -> Callable[[nn.Module, Any], Logits]:
    """What a teacher's module does with a batch: all of its forward, or up to the layer whose states are wanted."""
    hidden = session.hidden
    if hidden is None or session.distiller is not None:
        return session.task.forward
    return lambda module, inputs: _at(module, hidden.teacher_features, session, inputs)


def ask(session: Session, teacher: Teacher, inputs: Any) -> Tensor:
    """What a step asks of a teacher."""
    if session.hidden is not None and session.distiller is None:
        return session.hidden.ask(inputs, session.device)
    return teacher.logits(inputs)


def projection_flops(session: Session) -> int:
    """Of the map between states of different widths over the whole run: its forward, and both gradients."""
    hidden = session.hidden
    if hidden is None or hidden.projection is None:
        return 0
    recipe, total = session.recipe, session.total_steps
    sides = [side_of_step(recipe, step, total) for step in range(total) if hidden.window.scale(step, total) > 0]
    rows = {side: _rows(session, hidden, side) for side in dict.fromkeys(sides)}
    return session.parts * sum(6 * rows[side] * hidden.projection.numel() for side in sides)


def _rows(session: Session, hidden: HiddenLoss, side: int | None) -> int:
    """How many rows of states a micro-batch has."""
    sharded = isinstance(session.student, FSDPModule)
    student = session.task.build_model() if sharded else copy.deepcopy(session.student)
    inputs = on_meta(resized(session.batch(0).inputs, side))
    with torch.no_grad():
        return _at(student.to("meta"), hidden.features, session, inputs).shape[:-1].numel()


def _at(module: nn.Module, features: Features, session: Session, inputs: Any) -> Tensor:
    layer = module.get_submodule(features.name)
    states = states_at(layer, features, lambda: session.task.forward(module, inputs))
    assert states is not None, "asked before, when the run began"
    return states
