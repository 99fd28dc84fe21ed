"""Whether a student that is made to give its source's outputs gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstart.init.filling.observe import evaluating

_RELATIVE = {torch.float64: 1e-3, torch.float32: 1e-3}  # of the largest output; of narrower ones:
_NARROW = 5e-2
CHECKED = "checked on a batch"  # how a note of it begins


def outputs_kept(student: nn.Module, source: nn.Module, batch: Any, forward: Callable[[nn.Module, Any], Any]) -> str:
    """Compare what both give for a batch, in eval mode and without gradient.

    Args:
        student: With its first weights.
        source: The older model.
        batch: As `forward` takes it.
        forward: How a batch is given.

    Returns:
        What was found, as a note; empty where nothing that they give can be compared.
    """
    with evaluating(student), evaluating(source), torch.no_grad():
        pairs = list(zip(_tensors(forward(student, batch)), _tensors(forward(source, batch)), strict=False))
    pairs = [(mine, theirs) for mine, theirs in pairs if mine.shape == theirs.shape and mine.numel()]
    if not pairs:
        return ""
    wrong = [found for pair in pairs if (found := _difference(*pair))]
    if wrong:
        return (
            f"{CHECKED}: {wrong[0]}: it does not compute what the source does. Layers may concatenate or "
            "halve what looks like one axis, cut it into heads, or compute otherwise than the source's"
        )
    return f"{CHECKED}: the student gives the source's outputs"


def _difference(mine: Tensor, theirs: Tensor) -> str:
    """How far outputs lie apart; empty: they are the same but for rounding."""
    share = max(_RELATIVE.get(mine.dtype, _NARROW), _RELATIVE.get(theirs.dtype, _NARROW))
    mine, theirs = mine.double(), theirs.to(mine.device).double()
    largest = float(theirs[theirs.isfinite()].abs().amax()) if bool(theirs.isfinite().any()) else 0.0
    off = float((mine - theirs).abs().masked_fill(mine == theirs, 0).max())
    if off <= share * max(largest, 1e-6):
        return ""
    return f"the student's outputs are off by up to {off:.2g}, where the source's go up to {largest:.2g}"


def _tensors(given: Any) -> Iterator[Tensor]:
    """The floating tensors of what a model gives."""
    if isinstance(given, Tensor):
        if given.is_floating_point():
            yield given
    elif isinstance(given, Mapping | list | tuple):
        for part in given.values() if isinstance(given, Mapping) else given:
            yield from _tensors(part)
