"""From a recipe to its task."""

from __future__ import annotations

import torch

from headstart.tasks import Task
from headstart.tasks.images import ImageClassification
from headstart.train.recipe import ImageRecipe, Recipe


def build_task(recipe: Recipe, device: torch.device | str) -> Task:
    """The task that a recipe describes, with its data on the device or at hand for it."""
    train = recipe.train
    if isinstance(recipe, ImageRecipe):
        return ImageClassification(
            recipe.model, recipe.data, seed=train.seed, label_smoothing=train.label_smoothing, device=device
        )
    raise NotImplementedError(f"task {recipe.task!r}")
