"""The loss between hidden states that a recipe asks for."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from headstart.distill import HiddenLoss, TeacherPool
from headstart.errors import HeadstartError, RecipeError
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import run_window
from headstart.tasks import Batch
from headstart.tasks.images.progressive import resized


def hidden_loss(
    recipe: Recipe, student: nn.Module, pool: TeacherPool | None, sample: Batch, total_steps: int, side: int | None
) -> HiddenLoss | None:
    """The recipe's loss between hidden states.

    Args:
        recipe: What is trained.
        student: Without what is wrapped around it.
        pool: The teachers.
        sample: Part of a batch, from which the widths are learnt.
        total_steps: Of the run.
        side: That its images are resized to, in pixels; None: they are not.

    Returns:
        None where the recipe asks for none.

    Raises:
        RecipeError: A layer does not exist, gives no states, or sees other rows than the other one.
    """
    distill = recipe.distill
    if distill is None or distill.hidden is None or pool is None:
        return None
    settings = distill.hidden
    try:
        hidden = HiddenLoss(
            student,
            pool.live[0],
            resized(sample.inputs, side),
            total_steps=total_steps,
            layer=settings.student,
            teacher_layer=settings.teacher,
            loss=settings.loss,
            weight=settings.weight,
            seed=recipe.train.seed,
        )
    except HeadstartError as error:
        raise RecipeError(f"distill.hidden: {error}") from None
    window = run_window(distill, recipe.train)
    down = window.stop - window.start - window.ramp_up if settings.falling else window.ramp_down
    hidden.window = replace(window, ramp_down=down)
    return hidden
