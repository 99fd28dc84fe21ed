"""The section of a recipe that aligns a layer of the student with one of its teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headstart.config import Config, Positive

Layer = Annotated[float, Field(gt=0, le=1)] | str


class Hidden(Config):
    """Which layer of the student learns from which of the teacher, in the window of `distill`.

    The defaults are the setting of LET (arXiv 2602.05393).
    """

    student: Layer = 0.25
    """The student's layer: a fraction of its depth (0.25 of 8 layers is the second), or a path such as
    `model.layers.1`."""
    teacher: Layer = 1.0
    """The teacher's, likewise; 1.0 is the last of its layers. Where widths differ, a linear map of the student's states
    is trained beside it, and gone when the window closes."""
    loss: Literal["cosine", "mse"] = "cosine"
    """1 - the cosine between the states, or the mean of their squared differences; mean over tokens or places."""
    weight: Positive = 0.1
    """Of this loss, which is added to the others, at the window's beginning."""
    falling: bool = True
    """Whether the weight falls linearly over the window, to 0; false: it stays."""
