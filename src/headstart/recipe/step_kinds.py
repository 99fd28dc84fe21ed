"""Kinds of optimiser steps: what a race calibrates, and what a record counts.

A kind is named by its models and a digest of every setting that decides how much work the step is, each spelled out as
today's recipes have it. Names that an earlier version gave are put into today's when its runs are read again (see
`headstart.experiment.earlier`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from headstart.distill import Window
from headstart.distill.stopping import latest_stop
from headstart.errors import RecipeError
from headstart.recipe.cyclic_window import CyclicWindow
from headstart.recipe.distill_section import Distill
from headstart.recipe.image_sizes import side_of_step, sides_of
from headstart.recipe.recipe import Recipe
from headstart.recipe.train_section import Train
from headstart.teachers import TeacherEntry

_WORK = {
    "batch_size", "accumulate", "optimizer", "label_smoothing", "task_loss", "ema", "clip_norm", "precision",
    "deterministic",
}  # fmt: skip
_DISTILL_WORK = {
    "teachers", "loss", "standardize", "draw", "weights", "fraction", "average", "cache", "residence",
}  # fmt: skip


def plain_kind(recipe: Recipe, side: int | None = None) -> str:
    """The name of the recipe's step without distillation: equal for recipes whose steps do the same work.

    Args:
        recipe: The recipe.
        side: That images are resized to, in pixels; None: they are not.
    """
    work = {**recipe.step_work, **recipe.train.model_dump(include=_WORK)}
    if side is None:
        return f"{recipe.model_label} [{_digest(work)}]"
    return f"{recipe.model_label} at {side} pixels [{_digest(work | {'side': side})}]"


def distill_kind(recipe: Recipe, side: int | None = None) -> str | None:
    """The name of its distilling step, as `plain_kind`; None where the recipe does not distil."""
    if recipe.distill is None:
        return None
    work = {
        **recipe.distill.model_dump(include=_DISTILL_WORK),
        "teachers": [_work_of(entry) for entry in recipe.distill.teachers],
        "described": {name: recipe.teachers.get(name, {}) for name in recipe.distill.specs},
        "spooled": recipe.distill.spool is not None,
    }
    if recipe.distill.stop == "auto":
        work["measured"] = True
    if (hidden := recipe.distill.hidden) is not None:
        work["hidden"] = {
            **hidden.model_dump(include={"student", "teacher", "loss"}),
            "alone": not recipe.distill.of_logits,
        }
    return f"{plain_kind(recipe, side)} + {', '.join(recipe.distill.specs)} [{_digest(work)}]"


def steps_of(recipe: Recipe, samples: int) -> int:
    """Optimiser steps of a run on so many training samples.

    Raises:
        RecipeError: It trains not even one.
    """
    train = recipe.train
    if train.batch_size > samples:
        raise RecipeError(f"train.batch_size={train.batch_size} is more than the {samples} training samples")
    if train.steps is not None:
        return train.steps
    assert train.epochs is not None
    # Of the first cycle, so that a shorter training in the same cycles is the beginning of a longer one, to the step.
    steps: int = round((train.first_cycle or train.epochs) * (samples // train.batch_size)) * (2**train.cycles - 1)
    if steps < 1:
        raise RecipeError(
            f"train.epochs={train.epochs} is less than one step of {train.batch_size} samples; train longer"
        )
    return steps


def count_steps(recipe: Recipe, total_steps: int, *, begin: int = 0, end: int | None = None) -> dict[str, int]:
    """How many steps of each kind a run has; those that do not distil come first.

    Args:
        recipe: The recipe.
        total_steps: Of the run.
        begin: The first step that may be distilled, where the window opened by itself; none is with `total_steps`.
        end: The step after the last that may be distilled, where an automatic stop came before its cap.
    """
    window = run_window(recipe.distill, recipe.train) if recipe.distill is not None else None
    last = total_steps if end is None else end

    def distilled(step: int) -> bool:
        return window is not None and begin <= step < last and window.scale(step, total_steps) > 0

    steps = Counter((distilled(step), side_of_step(recipe, step, total_steps)) for step in range(total_steps))
    counts = {}
    for distils, name in ((False, plain_kind), (True, distill_kind)):
        for side in sides_of(recipe):
            if count := steps[distils, side]:
                counts[str(name(recipe, side))] = count
    return counts


def window_of(distill: Distill) -> Window:
    """The recipe's window; where it closes by itself, the longest that it can be."""
    latest = latest_stop(distill.stop, distill.cap)
    every = 1 if distill.every == "auto" else distill.every  # as often as it may be
    return Window(distill.start, latest, every, distill.ramp_up, distill.ramp_down)


def run_window(distill: Distill, train: Train) -> Window:
    """The window of a run: the recipe's, in every cycle where it trains in cycles."""
    if train.first_cycle is None:
        return window_of(distill)
    return CyclicWindow(**vars(window_of(distill)), cycles=train.cycles)


def _work_of(teacher: TeacherEntry) -> Any:
    """A teacher as it was written, without its temperature: dividing by it is no work."""
    return teacher.model_copy(update={"temperature": None}).model_dump()


def _digest(work: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(work, sort_keys=True).encode(), digest_size=3).hexdigest()
