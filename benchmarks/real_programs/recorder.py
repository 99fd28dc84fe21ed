"""Runs a training program as it is, in a process of its own, and notes its losses and its weights after each step."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

_HERE = Path(__file__).resolve().parent


def run_recorded(folder: str, script: str, options: list[str]) -> None:
    """Run a script with these options; a process of its own ends with it.

    `log.txt` in the folder has what it prints. `record.pt` becomes a file of torch: `losses`, one for each backward;
    `start`, the weights before the first step of an optimizer; `weights`, those after each.

    Args:
        folder: For both files.
        script: The program.
        options: Of its command.
    """
    output = os.open(Path(folder) / "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(Path(script).parent)
    sys.argv = [script, *options]
    sys.path[:0] = [str(Path(script).parent), str(_HERE / "stand_ins"), str(_HERE)]
    record: dict[str, Any] = {"losses": [], "start": None, "weights": []}
    _watch(record)
    runpy.run_path(script, run_name="__main__")
    torch.save(record, Path(folder) / "record.pt")


def _watch(record: dict[str, Any]) -> None:
    """Note what is computed from now on; nothing of it is changed."""
    backward: Any = Tensor.backward

    def noted(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        record["losses"].append(self.detach().double().sum())
        return backward(self, *args, **kwargs)

    def before(optimizer: Optimizer, *_: Any) -> None:
        if not record["weights"]:
            record["start"] = _flat(optimizer)

    def after(optimizer: Optimizer, *_: Any) -> None:
        record["weights"].append(_flat(optimizer))

    Tensor.backward = noted  # type: ignore[method-assign]
    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)


def _flat(optimizer: Optimizer) -> Tensor:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return torch.cat([parameter.detach().float().flatten() for parameter in parameters])
