"""How much memory things take: of tensors exactly, of this process as the system tells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux only


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors that share no memory.

    Example:
        >>> tensor_bytes([torch.zeros(3), torch.zeros(2, dtype=torch.int64)])
        28
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return tensor_bytes([*module.parameters(), *module.buffers()])


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of what an optimiser keeps beside the parameters; it has them from its first step on."""
    states: list[dict[str, Any]] = list(optimizer.state.values())
    return tensor_bytes(value for state in states for value in state.values() if isinstance(value, Tensor))


def resident_bytes() -> int | None:
    """Memory of the machine that this process occupies now; None where the system does not tell (no Linux)."""
    return _status("VmRSS")


def highest_resident_bytes() -> int | None:
    """The most that it was since `forget_highest`, or since the process began; None where nothing tells."""
    return _status("VmHWM")


def forget_highest() -> bool:
    """Have the high-water mark fall to what is in use; whether the system does so."""
    try:
        _FORGET.write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int | None:
    try:
        text = _STATUS.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
