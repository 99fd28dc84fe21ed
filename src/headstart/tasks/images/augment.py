"""Batch augmentation of uint8 images, as a pure function of (seed, epoch, sample)."""

from __future__ import annotations

import torch
from torch import Tensor

from headstart.tasks.images.config import Augment
from headstart.tasks.random import random_below


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
    mirrored = is_mirrored(samples, seed=seed, epoch=epoch).view(-1, 1) if settings.flip else None
    if settings.crop:
        if mirrored is not None:
            columns = torch.where(mirrored, width - 1 - columns, columns)
        rows = rows + below(2 * settings.crop + 1, 1) - settings.crop
        columns = columns + below(2 * settings.crop + 1, 2) - settings.crop
        images = _take(images, rows, columns)
    elif mirrored is not None:
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if settings.cutout:
        images = _cut(images, below(height, 3), below(width, 4), settings.cutout)
    return images


def is_mirrored(samples: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Which samples a flip mirrors in an epoch, `[batch]` of bool; arguments as above."""
    return random_below(2, samples, seed=seed, epoch=epoch, stream=0) == 1


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
