"""From a recipe to its task."""

from __future__ import annotations

import torch

from headstart.tasks import Task
from headstart.tasks.images import ImageClassification
from headstart.train.recipe import ImageRecipe, MlmRecipe, Recipe


def build_task(recipe: Recipe, device: torch.device | str) -> Task:
    """The task that a recipe describes, with its data on the device or at hand for it."""
    train = recipe.train
    if isinstance(recipe, ImageRecipe):
        return ImageClassification(
            recipe.model, recipe.data, seed=train.seed, label_smoothing=train.label_smoothing, device=device
        )
    if isinstance(recipe, MlmRecipe):
        # Here, because it brings transformers, which image training does not need.
        from headstart.tasks.text.corpus import load_corpus
        from headstart.tasks.text.task import MaskedLM

        return MaskedLM(
            recipe.model,
            recipe.data,
            load_corpus(recipe.data),
            seed=train.seed,
            label_smoothing=train.label_smoothing,
            device=device,
        )
    raise TypeError(f"{type(recipe).__name__} has no task; see headstart.train.recipe.RECIPES")
