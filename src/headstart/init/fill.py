"""A tensor of the student made out of one of the source."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headstart.init.picks import Pick
from headstart.init.plan import Take


def fill(take: Take, source: Tensor, current: Tensor, *, shrink: float = 1.0, perturb: float = 0.0) -> Tensor:
    """The student's tensor: entries picked along each dimension, those read divided by their copies.

    Args:
        take: What it takes.
        source: The source's tensor.
        current: The student's as it is, for rows that stay fresh; its dtype and device are the result's.
        shrink: What the result is multiplied by.
        perturb: How much of `current` is added to it.
    """
    value = source.to(current.device)
    for number, pick in enumerate(take.picks):
        if not pick.in_place:
            value = value.index_select(number, pick.index.clamp(min=0).to(value.device))
    for number, factor in enumerate(_factors(take)):
        if factor is not None:
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            value = value * _along(factor.to(value.device, value.dtype), number, value.dim())
    if (shrink, perturb) != (1.0, 0.0):
        value = shrink * value.to(torch.promote_types(value.dtype, torch.float32)) + perturb * current.detach()
    value = value.to(current.dtype)
    for number, pick in enumerate(take.picks):
        if pick.fresh:
            there = _along((pick.index >= 0).to(value.device), number, value.dim())
            value = torch.where(there, value, current.detach())
    return value


def inherited_entries(take: Take) -> int:
    """How many entries of the student's tensor come from the source."""
    return math.prod(len(pick.index) - pick.fresh for pick in take.picks)


def _factors(take: Take) -> list[Tensor | None]:
    """What each dimension's entries are multiplied by; None: nothing."""
    return [_share(pick) if divided else pick.scale for pick, divided in zip(take.picks, take.divided, strict=True)]


def _share(pick: Pick) -> Tensor | None:
    """Of what an entry of the source gave, the share that each of its copies gives; None: there are none."""
    return 1 / pick.copies if bool((pick.copies > 1).any()) else None


def _along(values: Tensor, dim: int, dims: int) -> Tensor:
    return values.reshape([-1 if number == dim else 1 for number in range(dims)])
