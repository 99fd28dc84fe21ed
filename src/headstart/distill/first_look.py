"""What is looked at once, at the first distilled step: looking waits for the device, so not at every one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.graph import Node

from headstart.distill.heads.head import Head
from headstart.distill.objective import Objective
from headstart.errors import HeadstartError, TeacherError

_DEPTH = 4  # operations between a task loss and what it was called with: weights, sums, means
_STILL = ("LogSoftmax", "View", "UnsafeView", "Reshape", "ToCopy", "Unsqueeze")  # leave the classes where they are
_MANY = 32  # labels that would not all lie between 0 and 1 by accident
_TASK_LOSSES: dict[str, Head] = {
    "NllLoss": "classes",
    "LogSoftmax": "classes",
    "BinaryCrossEntropy": "labels",
    "MseLoss": "values",
    "HuberLoss": "values",
    "SmoothL1Loss": "values",
}


def check_logits(whose: str, logits: Tensor, keep: Tensor, objective: Objective) -> bool:
    """Refuse probabilities where the loss takes logits.

    Args:
        whose: Who gave them, for the message.
        logits: What was given, `[rows, outputs]`.
        keep: What counts, `[rows]` of bool, or `[rows, outputs]`.
        objective: What is done with it.

    Returns:
        Whether that is settled: where too little counts it is not.

    Raises:
        TeacherError: In all rows that count, numbers from 0 on sum to 1, to within the dtype's rounding; or of several
            labels, which need not, all of many are from 0 to 1. Or they are no floating numbers.
    """
    if not logits.is_floating_point():
        raise TeacherError(f"{whose} gives {logits.dtype}, and no logits: leave out its argmax or threshold")
    if objective.head == "values" or not objective.known:
        return True
    if objective.head == "labels":
        return _check_sigmoids(whose, logits, keep)
    if logits.shape[-1] < 2:
        return True
    rounding = max(1e-4, 2 * torch.finfo(logits.dtype).eps)
    sums_to_one = (logits.amin(-1) >= 0) & ((logits.sum(-1, dtype=torch.float32) - 1.0).abs() <= rounding)
    counts, found = torch.stack([keep.any(), (sums_to_one | ~keep).all()]).tolist()
    if counts and found:
        raise TeacherError(
            f"{whose} gives probabilities (each row sums to 1), and the losses take logits: leave its softmax out, or "
            "give torch.log of them, which are logits of the same probabilities"
        )
    return bool(counts)


def _check_sigmoids(whose: str, logits: Tensor, keep: Tensor) -> bool:
    keep = (keep if keep.dim() > 1 or not keep.dim() else keep.unsqueeze(-1)).expand(logits.shape)
    inside, strictly = (logits >= 0) & (logits <= 1), (logits > 0) & (logits < 1)
    count, all_inside, some = torch.stack([keep.sum(), (inside | ~keep).all(), (strictly & keep).any()]).tolist()
    if count >= _MANY and all_inside and some:
        raise TeacherError(
            f"{whose} gives probabilities (all of {count} numbers are from 0 to 1), and the losses take logits: leave "
            "its sigmoid out, or give torch.logit of them"
        )
    return bool(count >= _MANY)


def check_class_dim(task: Tensor, logits: Tensor) -> None:
    """Refuse logits whose classes the task loss takes from the second dimension, as nobody told the Distiller.

    A cross-entropy of `[batch, classes, ...]` is another operator than that of `[rows, classes]`. Between it and the
    logits nothing moves a dimension where it took them as they are.

    Raises:
        HeadstartError: It is so.
    """
    if logits.dim() < 3 or logits.grad_fn is None:
        return
    for loss in _nodes(task.grad_fn, _DEPTH):
        if loss.name().startswith("NllLoss2D") and any(
            node is logits.grad_fn for node in _nodes(loss, _DEPTH, passing=_STILL)
        ):
            raise HeadstartError(
                f"the task loss takes the classes of logits {tuple(logits.shape)} from dimension 1, and the "
                "distillation loss from the last; set class_dim=1"
            )


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
    named = (
        next((head for name, head in _TASK_LOSSES.items() if node.name().startswith(name)), None)
        for node in _nodes(task.grad_fn, _DEPTH, until=tuple(_TASK_LOSSES))
    )
    return {head for head in named if head is not None}


def _nodes(
    start: Node | None, depth: int, *, passing: tuple[str, ...] | None = None, until: tuple[str, ...] = ()
) -> Iterator[Node]:
    """The nodes of a graph up to a depth.

    Args:
        start: The last one.
        depth: How many operations to go back.
        passing: Go on only behind nodes of these names, and the first; None: behind any.
        until: Do not go on behind those of these names.
    """
    nodes = [start]
    for place in range(depth):
        found = [node for node in nodes if node is not None]
        yield from found
        nodes = [
            parent
            for node in found
            if not node.name().startswith(until or ("-",))
            and (passing is None or not place or node.name().startswith(passing))
            for parent, _ in node.next_functions
        ]
