"""Progressive resizing: smaller images early in training, resized on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from headstart.tasks.images.config import ImageData


def side_at(data: ImageData, fraction: float) -> int | None:
    """The side of the images at a time of training, in pixels; None where they are not resized.

    It grows linearly from `scale` times `size` at `start` to `size` at `stop`, rounded to multiples of `increment`.

    Args:
        data: The recipe's section.
        fraction: Steps done, of all.

    Example:
        >>> data = ImageData(name="x", size=64, progressive={"scale": 0.5, "start": 0.2, "stop": 0.6})
        >>> [side_at(data, fraction) for fraction in (0.0, 0.2, 0.4, 0.59, 0.6, 1.0)]
        [32, 32, 48, None, None, None]
    """
    growing = data.progressive
    if growing is None or data.size is None or fraction >= growing.stop:
        return None
    grown = (fraction - growing.start) / (growing.stop - growing.start) if fraction > growing.start else 0.0
    side = _rounded(data.size * (growing.scale + (1 - growing.scale) * grown), growing.increment)
    return side if side < data.size else None


def sides(data: ImageData) -> list[int | None]:
    """All sides that the images of a training may have; None, their full size, is the last.

    Example:
        >>> sides(ImageData(name="x", size=64, progressive={"scale": 0.75, "increment": 8}))
        [48, 56, None]
    """
    growing = data.progressive
    if growing is None or data.size is None:
        return [None]
    first = _rounded(data.size * growing.scale, growing.increment)
    return [*range(first, data.size, growing.increment), None]


def resized(inputs: Any, side: int | None) -> Any:
    """Images `[batch, channels, height, width]` resized to a square, smoothed first where that makes them smaller.

    Args:
        inputs: Of floats; what else a task may have comes back as it is, as there is no side for it.
        side: In pixels; None: as they are.

    Example:
        >>> resized(torch.zeros(2, 3, 8, 8), 4).shape
        torch.Size([2, 3, 4, 4])
    """
    if side is None:
        return inputs
    smaller = F.interpolate(inputs, size=(side, side), mode="bilinear", antialias=True)
    return smaller.contiguous(memory_format=torch.channels_last)


def _rounded(pixels: float, increment: int) -> int:
    return max(increment, increment * round(pixels / increment))
