"""Small tensors that processes agree on, and that the host reads later, without waiting for the device."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def together() -> bool:
    """Whether there are other processes."""
    return distributed.is_available() and distributed.is_initialized()


def own_device() -> torch.device:
    """Where a process that has not distilled yet would: its GPU, where processes talk over those."""
    if "nccl" in distributed.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def over_processes(sums: Tensor | None, count: int) -> Tensor | None:
    """The sums of all processes; all of them have to call it. One alone gets back its own.

    Args:
        sums: Of this process, `[count]`; None where it has seen nothing.
        count: How many there are.
    """
    if not together():
        return sums
    sums = torch.zeros(count, device=own_device()) if sums is None else sums
    distributed.all_reduce(sums)  # on a GPU only queued
    return sums


def from_first(found: T) -> T:
    """What the first of all processes has found, in all of them; all of them have to call it.

    Args:
        found: By this process; can be pickled.

    Example:
        >>> from_first({"alone": True})
        {'alone': True}
    """
    if not together():
        return found
    held = [found if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(held)
    return held[0]  # type: ignore[return-value]  # the first process has put its own there


class Later:
    """A tensor on its way to the host.

    Args:
        tensor: A small one.

    Example:
        >>> Later(torch.tensor([1, 2])).read()
        [1, 2]
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host = tensor
        self._copied: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._host = tensor.to("cpu", non_blocking=True)  # into pinned memory
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(tensor.device))

    def read(self) -> list[float]:
        """Its numbers; waits for the copy, and not for all work since."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.tolist()
