"""Batch augmentation of uint8 images, as a pure function of (seed, epoch, sample)."""

from __future__ import annotations

import torch
from torch import Tensor

from headstart.tasks.images.config import Augment

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio as a signed 64-bit number; splitmix64's increment
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def _shift(value: Tensor, bits: int) -> Tensor:
    # torch shifts signed numbers arithmetically; splitmix64 wants zeros from the left.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _MIX_1
    value = (value ^ _shift(value, 27)) * _MIX_2
    return value ^ _shift(value, 31)


def random_below(limit: int, samples: Tensor, *, seed: int, epoch: int, stream: int) -> Tensor:
    """Uniform whole numbers in [0, limit), one per sample, the same on every device.

    From splitmix64's mixing of bits (Steele, Lea and Flood 2014, doi 10.1145/2714064.2660195).

    Args:
        limit: Number of values.
        samples: Indices of the samples in the training set, `[batch]` of int64.
        seed: The run's seed.
        epoch: Counted from 0.
        stream: Tells apart the numbers that one sample needs in one epoch.

    Returns:
        `[batch]` of int64.

    Example:
        >>> a = random_below(5, torch.arange(4), seed=0, epoch=1, stream=0)
        >>> bool(((a >= 0) & (a < 5)).all())
        True
    """
    state = torch.full_like(samples, seed)
    for number in (torch.full_like(samples, epoch), samples, torch.full_like(samples, stream)):
        state = _mix(state * _GOLDEN + number + 1)
    return _shift(state, 33) % limit


def augment(images: Tensor, samples: Tensor, settings: Augment, *, seed: int, epoch: int) -> Tensor:
    """Crop, flip and cut out, each image by its own draw.

    Args:
        images: `[batch, channels, height, width]`, any dtype.
        samples: Their indices in the training set, `[batch]` of int64.
        settings: What to do.
        seed: The run's seed.
        epoch: Counted from 0.

    Returns:
        Like `images`.

    Example:
        >>> images = torch.ones(2, 1, 4, 4, dtype=torch.uint8)
        >>> augment(images, torch.arange(2), Augment(cutout=2), seed=0, epoch=0).shape
        torch.Size([2, 1, 4, 4])
    """

    def below(limit: int, stream: int) -> Tensor:
        return random_below(limit, samples, seed=seed, epoch=epoch, stream=stream).view(-1, 1)

    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).expand(len(images), -1)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    if settings.flip:
        columns = torch.where(below(2, 0) == 1, width - 1 - columns, columns)
    if settings.crop:
        rows = rows + below(2 * settings.crop + 1, 1) - settings.crop
        columns = columns + below(2 * settings.crop + 1, 2) - settings.crop
    if settings.flip or settings.crop:
        images = _take(images, rows, columns)
    if settings.cutout:
        images = _cut(images, below(height, 3), below(width, 4), settings.cutout)
    return images


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel (rows[i], columns[j]) of each image; black outside."""
    height, width = images.shape[-2:]
    inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
    index = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
    flat = images.flatten(2)
    taken = flat.gather(2, index.flatten(1).unsqueeze(1).expand_as(flat)).view_as(images)
    return taken * inside.unsqueeze(1)


def _cut(images: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """Blank the square whose centre is (row, column); it may reach over the border."""
    rows = torch.arange(images.shape[-2], device=images.device) - row + side // 2
    columns = torch.arange(images.shape[-1], device=images.device) - column + side // 2
    hole = ((rows >= 0) & (rows < side)).unsqueeze(2) & ((columns >= 0) & (columns < side)).unsqueeze(1)
    return images * ~hole.unsqueeze(1)
