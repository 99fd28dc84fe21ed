"""Position embeddings of images cut into another grid of patches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Grid(NamedTuple):
    """The positions of a vision transformer: some tokens that stand before the patches, then rows of patches."""

    before: int
    height: int
    width: int

    @property
    def positions(self) -> int:
        """How many there are."""
        return self.before + self.height * self.width


def square(positions: int, before: int) -> Grid | None:
    """The grid of so many positions if their patches form a square, as without a word they do; None: they do not."""
    side = round(max(positions - before, 0) ** 0.5)
    return Grid(before, side, side) if side and before + side * side == positions else None


def resampled(values: Tensor, dim: int, source: Grid, student: Grid) -> Tensor:
    """Position embeddings on another grid: bicubic, with antialiasing, as timm does it; the tokens before stay.

    Args:
        values: The source's, with its positions along `dim`, the channels last.
        dim: The dimension before the last.
        source: Its grid.
        student: The grid wanted, with as many tokens before it.

    Returns:
        The same with the student's positions, in the dtype of `values`.

    Example:
        >>> resampled(torch.ones(1, 1 + 4, 8), 1, Grid(1, 2, 2), Grid(1, 3, 3)).shape
        torch.Size([1, 10, 8])
    """
    before = values.narrow(dim, 0, source.before)
    patches = values.narrow(dim, source.before, source.height * source.width)
    images = patches.reshape(-1, source.height, source.width, values.shape[-1]).permute(0, 3, 1, 2)
    wide = images.to(torch.promote_types(values.dtype, torch.float32))
    made = F.interpolate(wide, (student.height, student.width), mode="bicubic", antialias=True)
    shape = (*before.shape[:dim], student.height * student.width, values.shape[-1])
    return torch.cat([before, made.permute(0, 2, 3, 1).reshape(shape).to(values.dtype)], dim)
