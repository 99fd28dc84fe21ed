"""Teachers' non-finite outputs: left out of the loss on the device, reported a step later without waiting for it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from headstart.distill.later import Later, own_device, together
from headstart.errors import TeacherError


def finite_rows(logits: Tensor) -> Tensor:
    """Which rows hold finite numbers only, `[rows]` of bool.

    NaN and infinities survive the extremes of a row, which need no copy of the logits; large finite numbers, such as
    the lowest one that some models give to classes out of use, do not overflow in them as they would in a sum.

    Example:
        >>> finite_rows(torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [0.0, -torch.inf]]))
        tensor([ True, False, False])
    """
    return torch.isfinite(logits.amax(-1)) & torch.isfinite(logits.amin(-1))


class _Pending(NamedTuple):
    step: int
    flags: Later


class NonFiniteFlags:
    """One flag per teacher, raised on the device during a step, agreed over ranks, read at the next.

    Args:
        names: The teachers' names, for the message.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._raised: Tensor | None = None
        self._device: torch.device | None = None
        self._pending: _Pending | None = None
        self._together: bool | None = None  # whether all processes agree; known from the first step on

    def mark(self, teacher: int, finite: Tensor) -> None:
        """Note whether all rows of a teacher's output were finite; no synchronisation."""
        if self._raised is None:
            self._device = finite.device
            self._raised = torch.zeros(len(self._names), dtype=torch.int32, device=self._device)
        self._raised[teacher].add_((~finite).any())

    def hand_over(self, step: int, *, distilled: bool) -> None:
        """End a step: read what the one before found, then start agreeing on this one.

        Args:
            step: It.
            distilled: Whether the window says so, which is the same for all processes. One that had nothing to distil
                agrees as well, or the others would wait for it.

        Raises:
            TeacherError: The step before met non-finite outputs; names the teacher and the step.
        """
        self.check()
        if self._together is None:
            self._together = together() and not _uneven()
        if self._raised is None and not (self._together and distilled):
            return
        flags, self._raised = self._raised, None
        if flags is None:
            flags = torch.zeros(len(self._names), dtype=torch.int32, device=self._device or own_device())
        if self._together:
            distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)  # on a GPU only queued
        self._pending = _Pending(step, Later(flags))

    def check(self) -> None:
        """Read the flags that were handed over.

        Raises:
            TeacherError: A flag is up.
        """
        if self._pending is None:
            return
        step, flags = self._pending
        self._pending = None
        names = [name for name, flag in zip(self._names, flags.read(), strict=True) if flag]
        if names:
            raise TeacherError(
                f"teacher {' and '.join(map(repr, names))} gave non-finite logits at step {step}; the rows were left "
                "out of the loss. Check its weights and input normalisation, and whether it overflows in half precision"
            )


def _uneven() -> bool:
    """Whether some process may have fewer steps than others: DDP's `join` mirrors its own collectives, and no others.

    The one that finds something then tells it alone.
    """
    wrapped = (thing for thing in gc.get_objects() if type(thing) is DistributedDataParallel)
    return any(model._join_config.enable for model in wrapped)
