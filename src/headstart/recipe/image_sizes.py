"""The size of a run's images, where it changes with time (`data.progressive`)."""

from __future__ import annotations

from collections import Counter

from headstart.recipe.recipe import Recipe
from headstart.tasks.images.config import ImageData
from headstart.tasks.images.progressive import side_at, sides


def side_of_step(recipe: Recipe, step: int, total_steps: int) -> int | None:
    """The side that a step's images are resized to, in pixels; None: they stay as they are.

    Args:
        recipe: Of any task.
        step: Counted from 0.
        total_steps: Of the run: each budget goes through all sides.
    """
    return side_at(recipe.data, step / total_steps) if isinstance(recipe.data, ImageData) else None


def sides_of(recipe: Recipe) -> list[int | None]:
    """All sides that the steps of a run may have, whatever its length."""
    return sides(recipe.data) if isinstance(recipe.data, ImageData) else [None]


def count_sides(recipe: Recipe, total_steps: int) -> Counter[int | None]:
    """How many steps of a run have which side."""
    return Counter(side_of_step(recipe, step, total_steps) for step in range(total_steps))


def at_full_size(recipe: Recipe) -> Recipe:
    """The recipe with images of one size."""
    if not isinstance(recipe.data, ImageData):
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"progressive": None})})
