"""What is done to a decoded image before it joins a batch, by torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from headstart.tasks.images.models import vision_library

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], Tensor]


def training_transform(size: int, *, flip: bool) -> Transform:
    """A random part of the image, 8 to 100 % of its area, as a square of `size` pixels: uint8 `[3, size, size]`.

    It draws from torch's default generator.

    Args:
        size: In pixels.
        flip: Whether to mirror half of the images.

    Raises:
        HeadstartError: torchvision is not installed.
    """
    v2 = vision_library("torchvision.transforms.v2")
    transform: Transform = v2.Compose(
        [v2.RandomResizedCrop(size), *([v2.RandomHorizontalFlip()] if flip else []), v2.PILToTensor()]
    )
    return transform


def evaluation_transform(size: int) -> Transform:
    """The centre of the image, after its shorter side was resized to 8/7 of `size` (256 for 224): as in training.

    Raises:
        HeadstartError: torchvision is not installed.
    """
    v2 = vision_library("torchvision.transforms.v2")
    transform: Transform = v2.Compose([v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size), v2.PILToTensor()])
    return transform
