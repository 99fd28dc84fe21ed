"""A module with its weights, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from headstart.distill.inputs import Normalisation


@dataclass(frozen=True)
class Loaded:
    """A module with its weights, and what its origin says of it; None where it does not say.

    Attributes:
        module: The module.
        task: `image-classification`, `mlm`, `causal-lm`, `seq2seq`, `text-classification`, ...
        classes: Names of the classes, in their order.
        normalisation: Mean and standard deviation, per channel, that its images were normalised with.
        size: Height and width of the images that it was trained on.
        channels: Of these images.
        flipped: Whether their channels are in the other order (BGR).
        length: Tokens of the sequences that it was trained on, or can take.
        tokenizer: Folder or name of its tokenizer.
        revision: Of that name on the Hub.
    """

    module: nn.Module
    task: str | None = None
    classes: Sequence[str] | None = None
    normalisation: Normalisation | None = None
    size: tuple[int, int] | None = None
    channels: int = 3
    flipped: bool = False
    length: int | None = None
    tokenizer: str | None = None
    revision: str | None = None
