"""What is looked at once, at the first distilled step: looking waits for the device, so not at every one."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from headstart.distill.heads.head import Head
from headstart.distill.losses import LOSSES
from headstart.distill.objective import Objective
from headstart.errors import TeacherError

_DEPTH = 4  # operations between a task loss and what it was called with: weights, sums, means
_TASK_LOSSES: dict[str, Head] = {
    "NllLoss": "classes",
    "LogSoftmax": "classes",
    "BinaryCrossEntropy": "labels",
    "MseLoss": "values",
    "HuberLoss": "values",
    "SmoothL1Loss": "values",
}


def check_logits(name: str, target: Tensor, keep: Tensor, objective: Objective) -> bool:
    """Refuse a teacher that gives probabilities where the loss takes logits.

    Args:
        name: The teacher's.
        target: What it gave, `[rows, classes]`.
        keep: The rows that count, `[rows]` of bool.
        objective: What is done with it.

    Returns:
        Whether that is settled: where no row counts it is not.

    Raises:
        TeacherError: In all rows that count, numbers from 0 on sum to 1, to within the dtype's rounding.
    """
    if objective.head != "classes" or objective.loss not in LOSSES.values() or target.shape[-1] < 2:
        return True
    rounding = max(1e-4, 2 * torch.finfo(target.dtype).eps)
    sums_to_one = (target.amin(-1) >= 0) & ((target.sum(-1, dtype=torch.float32) - 1.0).abs() <= rounding)
    counts, found = torch.stack([keep.any(), (sums_to_one | ~keep).all()]).tolist()
    if counts and found:
        raise TeacherError(
            f"teacher {name!r} gives probabilities (each row sums to 1), and the losses take logits: leave its softmax "
            "out, or wrap it in a module that returns torch.log of them"
        )
    return bool(counts)


def warn_of_task(task: Tensor) -> None:
    """Warn where the graph of a task loss shows another head than the classes that a Distiller takes for granted."""
    found = _task_heads(task)
    if not found or "classes" in found:
        return
    head = "labels" if "labels" in found else "values"
    what = "a binary cross-entropy" if head == "labels" else "a squared or absolute error"
    then = "head='labels'" if head == "labels" else "head='values' and loss='mse' or 'huber'"
    warnings.warn(
        f"the task loss is {what}, and the distillation loss a softmax over classes: where the outputs are no classes "
        f"of which one is right, set {then}; where they are, head='classes' says so",
        UserWarning,
        stacklevel=2,
    )


def _task_heads(task: Tensor) -> set[Head]:
    """The heads that the losses at the end of a graph are for."""
    found: set[Head] = set()
    nodes = [task.grad_fn]
    for _ in range(_DEPTH):
        following = []
        for node in nodes:
            if node is None:
                continue
            head = next((head for name, head in _TASK_LOSSES.items() if node.name().startswith(name)), None)
            if head is None:
                following += [parent for parent, _ in node.next_functions]
            else:
                found.add(head)
        nodes = following
    return found
