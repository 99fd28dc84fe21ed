"""A tensor of the student made out of one of the source."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headstart.init.filling.gather import blocks, entries, pick_into, picked
from headstart.init.picking.picks import Pick
from headstart.init.plan import Take
from headstart.init.side import all_finite


def fill(
    take: Take, source: Tensor, current: Tensor, out: Tensor, *, shrink: float = 1.0, perturb: float = 0.0
) -> bool:
    """Write the student's tensor: entries picked along each dimension, those read divided by their copies.

    Args:
        take: What it takes.
        source: The source's tensor.
        current: The student's as it is, for rows that stay fresh.
        out: Where it is written, of the student's shape, dtype and device; may be `current` itself.
        shrink: What the result is multiplied by.
        perturb: How much of `current` is added to it.

    Returns:
        Whether all that was written is finite.
    """
    source, out, factors = source.detach(), out.detach(), _factors(take)
    index = [pick.index.clamp(min=0) for pick in take.picks]
    columns = [entries(each) for each in index[1:]]
    taken_as_it_is = (
        (source.dtype, source.device) == (out.dtype, out.device)
        and (shrink, perturb) == (1.0, 0.0)
        and not any(factor is not None or pick.fresh for factor, pick in zip(factors, take.picks, strict=True))
    )
    if not out.dim():
        out.copy_(_made(source, take, factors, slice(0), current, (shrink, perturb)))
        return all_finite(out)
    for rows in blocks(len(out), max(out.numel(), len(out) * math.prod(source.shape[1:]))):
        along = [entries(index[0][rows]), *columns]
        if taken_as_it_is:
            pick_into(out[rows], source, along)
        else:
            out[rows].copy_(_made(picked(source, along), take, factors, rows, current[rows], (shrink, perturb)))
    return all_finite(out)


def inherited_entries(take: Take) -> int:
    """How many entries of the student's tensor come from the source."""
    return math.prod(len(pick.index) - pick.fresh for pick in take.picks)


def _made(
    value: Tensor, take: Take, factors: list[Tensor | None], rows: slice, current: Tensor, mix: tuple[float, float]
) -> Tensor:
    """Some rows of the result, out of what was picked for them."""
    value = value.to(current.device)
    for dim, factor in enumerate(factors):
        if factor is not None:
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            value = value * _along(factor[rows] if dim == 0 else factor, dim, value).to(value.device, value.dtype)
    if mix != (1.0, 0.0):
        value = mix[0] * value.to(torch.promote_types(value.dtype, torch.float32)) + mix[1] * current
    for dim, pick in enumerate(take.picks):
        if pick.fresh:
            there = _along((pick.index[rows] if dim == 0 else pick.index) >= 0, dim, value).to(value.device)
            value = torch.where(there, value.to(current.dtype), current)
    return value


def _factors(take: Take) -> list[Tensor | None]:
    """What each dimension's entries are multiplied by; None: nothing."""
    return [_share(pick) if divided else pick.scale for pick, divided in zip(take.picks, take.divided, strict=True)]


def _share(pick: Pick) -> Tensor | None:
    """Of what an entry of the source gave, the share that each of its copies gives; None: there are none."""
    return 1 / pick.copies if bool((pick.copies > 1).any()) else None


def _along(values: Tensor, dim: int, like: Tensor) -> Tensor:
    return values.reshape([-1 if number == dim else 1 for number in range(like.dim())])
