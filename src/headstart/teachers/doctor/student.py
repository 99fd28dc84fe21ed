"""The student as the doctor asks it: its heads, with their rows last, on a batch that stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstart.adapters.model_head import logits_of
from headstart.distill.heads.several import Names, Several, outputs_of
from headstart.distill.inputs import call, each_tensor, tensors, versions
from headstart.errors import HeadstartError
from headstart.teachers.doctor.observe import Batch

Forward = Callable[[nn.Module, Any], Tensor | Several]


def student_logits(model: nn.Module, inputs: Any) -> Tensor | Several:
    """What a student gives: logits `[..., classes]`, or an answer's start and end.

    Raises:
        HeadstartError: It gives no logits.
    """
    logits = logits_of(call(model, inputs), False)
    if logits is None:
        raise HeadstartError(
            "the student's forward gave no logits; it must return a tensor or an object with `logits`, or give "
            "doctor(forward=lambda model, inputs: ...)"
        )
    return logits


class Student:
    """A model, and how it is asked.

    Args:
        model: The student.
        forward: Gives its logits, of one head or of several.
        class_dim: The dimension of its classes; None: the last.
        inputs: A batch's, on which it is tried.

    Attributes:
        names: Of its heads; none where it has only one.
        writes: Whether its forward changes its inputs in place.
    """

    def __init__(self, model: nn.Module, forward: Forward, class_dim: int | None, inputs: Any) -> None:
        self.model, self.class_dim, self._forward = model, class_dim, forward
        given = each_tensor(Tensor.clone, inputs)
        before = versions(given)
        outputs = forward(model, given)
        changed = any(
            now.dtype != was.dtype or not torch.equal(now, was)
            for now, was in zip(tensors(given), tensors(inputs), strict=True)
            if now.layout is torch.strided and not now.isnan().any()
        )
        self.writes = changed or versions(given) != before
        self.names: Names = outputs_of(outputs, None)[0]

    def logits(self, inputs: Any) -> Tensor | Several:
        """What it gives, as the Distiller is given it; what it writes, it writes into copies."""
        return self._forward(self.model, each_tensor(Tensor.clone, inputs) if self.writes else inputs)

    def rows(self, inputs: Any, head: int) -> Tensor:
        """The logits of one of its heads, with the classes last."""
        return classes_last(outputs_of(self.logits(inputs), None)[1][head].logits, self.class_dim)


def classes_last(logits: Tensor, class_dim: int | None) -> Tensor:
    """Logits with the classes last; a number for each sample is a row of one."""
    logits = logits.unsqueeze(-1) if logits.dim() == 1 else logits
    return logits if class_dim is None else logits.movedim(class_dim, -1)


def of_head(batches: Sequence[Batch], names: Names, head: int) -> list[Batch]:
    """Batches with the labels of one of several heads; None where they have none."""
    if not names:
        return list(batches)
    name, found = names[head], []
    for inputs, labels in batches:
        if isinstance(labels, Mapping):
            found.append((inputs, labels.get(name)))
        else:
            found.append((inputs, labels[head] if isinstance(labels, tuple | list) and head < len(labels) else None))
    return found
