"""A student spread over processes: its statistics averaged, its weights gathered."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from headstart.train import ranks

_STATISTICS = ("running_mean", "running_var")


def average_statistics(model: nn.Module) -> None:
    """Make the running statistics of normalisation layers their means over processes.

    Each process has updated them from its part of the batch. Averaged after each step, they are the same everywhere,
    so that one process can evaluate or save for all.
    """
    if ranks.count() == 1:
        return
    statistics = [value for name, value in model.named_buffers() if name.endswith(_STATISTICS)]
    if not statistics:
        return
    flat = torch.cat([value.flatten() for value in statistics])
    distributed.all_reduce(flat)
    flat /= ranks.count()
    for value, mean in zip(statistics, torch.split(flat, [value.numel() for value in statistics]), strict=True):
        value.copy_(mean.view_as(value))


def gathered(model: nn.Module) -> dict[str, Tensor]:
    """A model's state on the CPU of the process that writes; a tensor that has several names once, by the first.

    All processes have to call it. The others get an empty mapping.
    """
    named: dict[int, str] = {}
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if value.numel() and named.setdefault(_place(value), name) != name:
            continue
        whole = value.detach()
        whole = whole.full_tensor() if isinstance(whole, DTensor) else whole
        if ranks.is_main():
            state[name] = whole.cpu().contiguous()
    return state


def _place(value: Tensor) -> int:
    """The same number for names of the same tensor; a sharded one may hold nothing here."""
    return id(value) if isinstance(value, DTensor) else value.data_ptr()
