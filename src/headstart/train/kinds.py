"""Kinds of optimiser steps: what a race calibrates, and what a record counts."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from headstart.distill import Window
from headstart.train.recipe import Distill, Recipe


def plain_kind(recipe: Recipe) -> str:
    """The name of the recipe's step without distillation: equal for recipes whose steps do the same work."""
    train = recipe.train.model_dump(
        include={"batch_size", "accumulate", "optimizer", "label_smoothing", "clip_norm", "precision", "deterministic"}
    )
    return f"{recipe.model_label} [{_digest({**recipe.step_work, **train})}]"


def distill_kind(recipe: Recipe) -> str | None:
    """The name of its distilling step; None where the recipe does not distil."""
    if recipe.distill is None:
        return None
    # What is left out at its default (options, cache, fraction, residence) is so for the sake of names already given.
    distill = recipe.distill.model_dump(
        include={"teachers", "loss", "standardize", "draw", "weights", "fraction", "average"}
    )
    work = {**distill, "teachers": {name: recipe.teachers.get(name, {}) for name in recipe.distill.specs}}
    if options := [entry for entry in distill["teachers"] if not isinstance(entry, str)]:
        work["options"] = options
    if recipe.distill.cache is not None:
        work["cache"] = recipe.distill.cache
    if recipe.distill.residence != "device":
        work["residence"] = [recipe.distill.residence, recipe.distill.spool is not None]
    return f"{plain_kind(recipe)} + {', '.join(recipe.distill.specs)} [{_digest(work)}]"


def count_steps(recipe: Recipe, total_steps: int) -> dict[str, int]:
    """How many steps of each kind a run has."""
    kind = distill_kind(recipe)
    distilled = window_of(recipe.distill).distilled_steps(total_steps) if recipe.distill else 0
    counts = {plain_kind(recipe): total_steps - distilled}
    if kind is not None:
        counts[kind] = distilled
    return {name: count for name, count in counts.items() if count}


def window_of(distill: Distill) -> Window:
    """The recipe's window."""
    return Window(distill.start, distill.stop, distill.every, distill.ramp_up, distill.ramp_down)


def _digest(work: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(work, sort_keys=True).encode(), digest_size=3).hexdigest()
