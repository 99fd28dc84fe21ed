"""A Distiller whose settings follow from a probe."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from headstart.distill.distiller import Distiller
from headstart.distill.later import from_first
from headstart.distill.pool.pool import TeacherPool, as_pool
from headstart.distill.pool.teacher import Teacher
from headstart.distill.probing.choice import Choice, choose
from headstart.distill.probing.probe import Teachers, probe
from headstart.distill.probing.record import Probe
from headstart.distill.stopping import CAP as FIXED
from headstart.distill.window import Window
from headstart.errors import HeadstartError, TeacherError

CAP = 1.0  # of training, at which the window closes at the latest: what opens late is of use to the end


@dataclass(frozen=True)
class Auto:
    """Settings that follow from a probe. `print` it for what was chosen, and why.

    Attributes:
        probe: What was found.
        choice: What follows from it.
        pool: The teachers asked, each calibrated; all of them where none is of use.
        settings: What a Distiller is given beside them.
    """

    probe: Probe
    choice: Choice
    pool: TeacherPool
    settings: dict[str, Any]

    def distiller(self) -> Distiller:
        """A Distiller with these settings; where no teacher is of use it asks none, and the loop stays the same."""
        return Distiller(self.pool, **self.settings)

    def __str__(self) -> str:
        told = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return "\n".join([*self.probe.notes(), *self.choice.reasons, f"Distiller(pool, {told})"])


def auto(
    teachers: Teachers,
    student: nn.Module,
    batches: Iterable[tuple[Any, Any]],
    *,
    total_steps: int,
    warmup: float | None = None,
    seed: int = 0,
    **looking: Any,
) -> Auto:
    """Probe teachers, and choose: whom to ask, calibrated how, on which steps; the window then closes by itself.

    What it chooses is all in `pool` and `settings`, which can be printed and written down as they are. Nothing about it
    depends on the clock where FLOPs can be counted. Of several processes each looks at its own batches, and all take
    what the first one has found, so that all have to call it. The teachers given stay as they are; those in `pool` are
    others, of the same modules.

    Args:
        teachers: As in `Distiller`. Of a pool of one's own the seed and `per_rank` are kept; it draws one teacher at a
            step, with equal odds, as both are chosen here.
        student: The model that is to be trained, before its first step; it is not touched.
        batches: As in `probe`.
        total_steps: Optimiser steps of the whole training.
        warmup: As in `Distiller`: the fraction of training in which the learning rate rises. Default: the Distiller's.
        seed: Of the draw, where teachers do not come in a pool.
        looking: Further arguments of `probe`: head, class_dim, forward, autocast, trained, progress.

    Raises:
        HeadstartError: As `probe`.
        TeacherError: As `probe`; or a pool says itself how it draws, or has its teachers elsewhere than on the device.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> student, noise = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> batch = torch.randn(300, 2), torch.randint(3, (300,))
        >>> chosen = auto(noise, student, [batch], total_steps=100)
        >>> chosen.choice.asked, chosen.settings["stop"]
        ((), 0.0)
        >>> chosen.distiller().closed
        True
    """
    if "window" in looking:
        raise HeadstartError("auto: the window closes by itself; leave window out, or make a Distiller with your own")
    pool = _undecided(as_pool(teachers))
    head, class_dim = looking.get("head"), looking.get("class_dim")
    classes = head in (None, "classes")  # for others there is no automatic stop, and nothing to wait for
    window = Window(stop=CAP if classes else FIXED)
    found = probe(
        pool, student, batches, window=window, total_steps=total_steps, **{"timed": False, "in_full": False, **looking}
    )
    found, choice = from_first((found, choose(found)))
    settings: dict[str, Any] = {"total_steps": total_steps, "head": found.head}
    settings |= {} if class_dim is None else {"class_dim": class_dim}
    settings["weight"] = choice.weight
    settings |= {"loss": "mse"} if head == "values" else {"temperature": choice.temperature}
    if not choice.asked:
        return Auto(found, choice, pool, settings | {"stop": 0.0})
    if not classes:
        settings |= {"stop": FIXED}
    else:
        settings |= {"stop": "auto", "cap": min(CAP, choice.cap)} | ({} if warmup is None else {"warmup": warmup})
        settings |= {} if choice.open_at is None else {"open_at": choice.open_at}
    seed = pool.seed if isinstance(teachers, TeacherPool) else seed
    return Auto(found, choice, _asked(pool, choice, seed), settings | {"every": choice.every})


def _undecided(pool: TeacherPool) -> TeacherPool:
    """A pool that leaves open what is chosen here."""
    for wrong, told in (
        (pool.draw != 1, f"the pool asks {pool.draw} teachers a step, and auto reckons with one"),
        (len(set(pool.weights)) > 1, "the pool has weights of its own, and auto chooses them"),
        (not pool.stays, "the pool has its teachers elsewhere, and auto looks at them on the student's device"),
    ):
        if wrong:
            raise TeacherError(f"{told}; give the teachers themselves, or call probe and set the rest yourself")
    return pool


def _asked(pool: TeacherPool, choice: Choice, seed: int) -> TeacherPool:
    kept = []
    for teacher in pool.teachers:
        if teacher.name in choice.asked:
            assert isinstance(teacher, Teacher)
            kept.append(calibrated := copy.copy(teacher))
            calibrated.temperature = teacher.temperature * choice.temperatures.get(teacher.name, 1.0)
    weights = [choice.weights[teacher.name] for teacher in kept]
    return TeacherPool(kept, weights=weights, seed=seed, per_rank=pool.per_rank)
