"""Settings of a recipe that do not go together."""

from __future__ import annotations

from headstart.errors import RecipeError
from headstart.recipe.distill_section import Distill
from headstart.recipe.recipe import Recipe
from headstart.tasks.images.config import ImageData


def check_settings(recipe: Recipe) -> None:
    """Refuse a recipe whose settings would do something else than they say.

    Raises:
        RecipeError: Two settings do not go together; names both.
    """
    train, distill = recipe.train, recipe.distill
    if train.task_loss == "bce" and not isinstance(recipe.data, ImageData):
        raise RecipeError(f"train.task_loss=bce is a loss of images; the task {recipe.task} has the cross-entropy only")
    if train.ema is not None and train.sharding == "fsdp":
        raise RecipeError("train.ema needs whole weights on each process; set train.sharding=none, or leave it out")
    if train.first_cycle is not None and _progressive(recipe):
        raise RecipeError(
            "data.progressive: images grow over the whole training, so that cycles would end with images of different "
            "sizes; set it to null, or train.first_cycle (race.curve: separate)"
        )
    if distill is not None and distill.cache is not None:
        check_cacheable(recipe)
    if distill is not None and distill.stop == "auto":
        _check_by_itself(recipe, "stop=auto", "closes the window once and for good", "distill.stop to a fraction")
    if distill is not None and distill.open_at is not None:
        _check_by_itself(recipe, "open_at", "opens the window once", "distill.start instead")
    if distill is not None and distill.undecided:
        _check_probe(distill)


def check_cacheable(recipe: Recipe, *, by_view: bool = False) -> None:
    """Refuse a recipe whose inputs do not follow from sample and epoch alone, which is what a cache knows.

    Args:
        recipe: It.
        by_view: Whether a cache is to hold every view of every sample.

    Raises:
        RecipeError: A setting makes it so; names it.
    """
    if recipe.distill is not None and recipe.distill.hidden is not None:
        raise RecipeError(
            "distill.hidden: a cache holds logits and no hidden states; cache without it (distill.hidden=null)"
        )
    if _mixup(recipe):
        raise RecipeError(
            "data.augment.mixup: a mixture's target belongs to two images, and cached targets to one each; train with "
            "live teachers (distill.cache=null), or set mixup to 0"
        )
    if _progressive(recipe):
        raise RecipeError(
            "data.progressive: how large an image is depends on how long the run is, which a cache does not know; "
            "train with live teachers (distill.cache=null), or set data.progressive to null"
        )
    if by_view and getattr(recipe.data, "views", None) is None:
        raise RecipeError(
            f"{recipe.name}: a sample is seen in more ways than a cache can hold (a flip alone makes two; crops, "
            "cutout and masks many, and so do images with data.size), or is another one with each seed "
            "(data.streaming); cache by epoch"
        )
    if recipe.distill is not None and recipe.distill.undecided:
        raise RecipeError(
            f"distill.{recipe.distill.undecided[0]}=auto is decided before each training, and cached targets are made "
            "before that; set it yourself, as headstart teachers --probe tells it"
        )


def _check_by_itself(recipe: Recipe, setting: str, does: str, instead: str) -> None:
    """Refuse a window that opens or closes by itself where what it measures would be something else."""
    if recipe.train.first_cycle is not None:
        raise RecipeError(
            f"distill.{setting} {does}, and train.first_cycle (race.curve: cyclic) opens one in every cycle; set "
            f"{instead}, or race.curve: separate"
        )
    if recipe.train.task_loss == "bce":
        raise RecipeError(
            f"distill.{setting} compares probabilities of classes with labels, and train.task_loss=bce trains others; "
            f"set {instead}"
        )


def _check_probe(distill: Distill) -> None:
    """Refuse settings that a probe is to decide, where it could not look at the teachers."""
    if distill.hidden is not None:
        raise RecipeError(
            f"distill.{distill.undecided[0]}=auto looks at what teachers say, and not at the states that "
            "distill.hidden learns from; set it yourself"
        )
    if distill.residence == "sharded":
        raise RecipeError(
            f"distill.{distill.undecided[0]}=auto looks at one teacher after the other on one device, and "
            "distill.residence=sharded has those that no device holds; set it yourself"
        )
    for keys, wrong, what in (
        (("open_at", "every"), distill.draw != 1, f"one teacher a step, and distill.draw={distill.draw} asks more"),
        (
            ("open_at", "every", "weights"),
            distill.fraction < 1,
            f"whole batches, and distill.fraction={distill.fraction:g} asks about a part of each",
        ),
    ):
        for key in keys:
            if wrong and key in distill.undecided:
                raise RecipeError(f"distill.{key}=auto reckons with {what}; set it yourself")


def _mixup(recipe: Recipe) -> bool:
    return isinstance(recipe.data, ImageData) and recipe.data.augment.mixup > 0


def _progressive(recipe: Recipe) -> bool:
    return isinstance(recipe.data, ImageData) and recipe.data.progressive is not None
