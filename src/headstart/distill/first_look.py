"""What is looked at once, at the first distilled step: looking waits for the device, so not at every one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from headstart.distill.heads.head import Head
from headstart.distill.losses import huber, mse, widen
from headstart.distill.objective import IGNORED, Objective
from headstart.errors import HeadstartError, TeacherError

_DEPTH = 4  # operations between a task loss and what it was called with: weights, sums, means
_STILL = ("LogSoftmax", "View", "UnsafeView", "Reshape", "ToCopy", "Unsqueeze")  # leave the classes where they are
_SUM = 2  # as torch numbers its reductions
_MANY = 32  # labels that would not all lie between 0 and 1 by accident
_TASK_LOSSES: dict[str, Head] = {
    "NllLoss": "classes",
    "LogSoftmax": "classes",
    "BinaryCrossEntropy": "labels",
    "MseLoss": "values",
    "HuberLoss": "values",
    "SmoothL1Loss": "values",
}


def refuse_own_tokens(whose: str, inputs: Any, labels: Any) -> None:
    """Refuse labels of a causal model that nobody has shifted, as the Trainer of transformers has them.

    Args:
        whose: Who compares with labels, for the message.
        inputs: What the student was given.
        labels: Of the batch.

    Raises:
        HeadstartError: They are the very tokens of the inputs.
    """
    tokens = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(tokens, Tensor) or not isinstance(labels, Tensor) or tokens.shape != labels.shape:
        return
    labelled = labels != IGNORED
    if labelled.any() and bool((labels == tokens)[labelled].all()):
        raise HeadstartError(
            f"{whose}: the labels are the very tokens of the inputs, and a causal model is judged by the next ones; "
            "shift them: labels = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]"
        )


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


def check_same_numbers(whose: str, student: Tensor, teacher: Tensor, keep: Tensor, objective: Objective) -> bool:
    """Refuse log-probabilities on one side alone where the loss compares the numbers themselves.

    A softmax does not tell them from logits, as they differ by a number a row; a squared error does.

    Args:
        whose: Who gave the teacher's, for the message.
        student: `[rows, classes]`.
        teacher: `[rows, classes]`.
        keep: What counts, `[rows]` of bool, or one for all.
        objective: What is done with them.

    Returns:
        Whether that is settled: where nothing counts it is not.

    Raises:
        TeacherError: The exponentials of one side sum to 1 in all rows that count, and those of the other do not.
    """
    if objective.loss.function not in (mse, huber) or objective.standardize or teacher.shape[-1] < 2:
        return True
    keep = keep.expand(teacher.shape[:-1])
    logs = [torch.logsumexp(widen(side.detach()), -1).abs() for side in (student, teacher)]
    close = [
        ((log <= max(1e-4, 8 * torch.finfo(side.dtype).eps)) | ~keep).all()
        for log, side in zip(logs, (student, teacher), strict=True)
    ]
    counts, own, theirs = torch.stack([keep.any(), *close]).tolist()
    if counts and own != theirs:
        one, other = ("the student", whose) if own else (whose, "the student")
        raise TeacherError(
            f"{one} gives log-probabilities (the exponentials of each row sum to 1) and {other} does not, and the loss "
            "compares the numbers themselves: leave the log_softmax out, put it at the end of both, or set loss='kl', "
            "to which both are the same"
        )
    return bool(counts)


def ignored_label(task: Tensor) -> int | None:
    """The label of rows that a task loss leaves out, where that is another one than -100.

    The graph of torch's cross-entropy tells its `ignore_index`; None where it does not, or where there are several.

    Example:
        >>> logits, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2])
        >>> ignored_label(torch.nn.functional.cross_entropy(logits, labels, ignore_index=0))
        0
    """
    found = {
        _signed(node._saved_ignore_index)
        for node in _nodes(task.grad_fn, _DEPTH, until=tuple(_TASK_LOSSES))
        if hasattr(node, "_saved_ignore_index")
    }
    return found.pop() if len(found) == 1 and IGNORED not in found else None


def warn_of_sum(task: Tensor, rows: int) -> None:
    """Warn where a task loss is the sum of torch's loss over rows, and nothing has divided it: the other is a mean."""
    if rows > 1 and getattr(task.grad_fn, "_saved_reduction", None) == _SUM:
        warnings.warn(
            "the task loss is a sum over the batch (reduction='sum'), and the distillation loss a mean, so that "
            f"distilling has about a {rows}th of its weight; take the mean of both (reduction='mean'), or their sums: "
            "num_items=1",
            UserWarning,
            stacklevel=2,
        )


def _signed(number: int) -> int:
    """Torch tells a negative number in 64 bits without a sign."""
    return number - 2**64 if number >= 2**63 else number


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
