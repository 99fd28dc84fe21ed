"""The rows that a probe looks at, and what student and teachers say to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headstart.distill.first_look import check_logits, refuse_own_tokens
from headstart.distill.heads.head import Head
from headstart.distill.heads.layout import Layout
from headstart.distill.heads.several import Names, outputs_of
from headstart.distill.objective import build_objective
from headstart.distill.pool.teacher import Teacher
from headstart.distill.probing.evidence import Evidence, joined
from headstart.distill.probing.student import StudentCopy
from headstart.distill.projection import Logits, Projection
from headstart.distill.targets.source import as_rows
from headstart.errors import HeadstartError

_LOGITS, _ROWS = 2**24, 16  # logits of a model that are kept in all; rows of a batch that are looked at in any case


@dataclass(frozen=True)
class Shown:
    """One head of a batch.

    Attributes:
        outline: A tensor of the shape of its logits, `[..., outputs]`, without memory.
        index: The rows that are looked at, `[rows]`.
        labels: Theirs.
        counted: As in `Evidence`.
    """

    outline: Tensor
    index: Tensor
    labels: Tensor
    counted: Tensor


@dataclass(frozen=True)
class Asked:
    """What all models are asked.

    Attributes:
        batches: The inputs of each, and what is looked at in each head.
        names: Of the heads; none where there is one.
        layout: How outputs lie.
    """

    batches: list[tuple[Any, list[Shown]]]
    names: Names
    layout: Layout

    @property
    def head(self) -> Head:
        """What a row means."""
        return self.layout.objective.head


def ask_student(
    student: StudentCopy, batches: Sequence[tuple[Any, Any]], head: Head | None, class_dim: int | None
) -> tuple[Asked, list[Evidence]]:
    """Choose the rows to look at, and take down what the student says to them.

    Raises:
        HeadstartError: There are no labels, they do not fit, or they are the inputs' own tokens.
    """
    objective = build_objective("mse" if head == "values" else "kl", 1.0, head=head or "classes")
    layout = Layout(head, class_dim, objective)
    found: list[tuple[Any, list[Shown]]] = []
    said: list[list[Evidence]] = []
    names: Names = ()
    for inputs, labels in batches:
        refuse_own_tokens("probe", inputs, labels)
        given = student.outputs(inputs)
        names, outputs = outputs_of(given.outline() if isinstance(given, Projection) else given, labels)
        shown = []
        for place, output in enumerate(outputs):
            if output.labels is None:
                raise HeadstartError(
                    "probe: teachers are judged by labels, and a batch has none; give (inputs, labels)"
                )
            shown.append(_shown(layout, output.logits, output.labels, len(batches)))
            whole = given if isinstance(given, Projection) else output.logits
            said.append([]) if len(said) <= place else None
            said[place].append(_evidence(layout, whole, shown[-1], ""))
        found.append((inputs, shown))
    evidence = [joined(parts) for parts in said]
    if not all(one.count for one in evidence):
        raise HeadstartError("probe: no row of the batches has a label; give batches with labels other than -100")
    return Asked(found, names, layout), evidence


def ask_teacher(teacher: Teacher, asked: Asked, told: Callable[[int], None]) -> list[Evidence]:
    """What a teacher says to the same rows, of each head.

    Raises:
        TeacherError: It does not fit the student, or gives probabilities.
    """
    said: list[list[Evidence]] = [[] for _ in asked.batches[0][1]]
    for number, (inputs, shown) in enumerate(asked.batches):
        names = asked.names
        given: Sequence[Any] = teacher.several(inputs, None, names) if names else [teacher.targets(inputs)]
        for place, (one, of_head) in enumerate(zip(given, shown, strict=True)):
            said[place].append(_evidence(asked.layout, one, of_head, teacher.name))
        told(number + 1)
    return [joined(parts) for parts in said]


def _shown(layout: Layout, outputs: Tensor, labels: Tensor, batches: int) -> Shown:
    rows, fitting = layout.of_student(outputs, labels)
    assert fitting is not None
    if layout.objective.head == "classes" and fitting.is_floating_point() and fitting.dim() < rows.dim():
        raise HeadstartError(
            f"probe: labels are {fitting.dtype} of shape {tuple(labels.shape)}; give the indices of classes as int64, "
            'probabilities of each class, or say what outputs are: head="values"'
        )
    flat = fitting.flatten(0, -2) if fitting.dim() == rows.dim() else fitting.flatten()
    counted = layout.objective.counted(flat)
    index = (counted if counted.dim() == 1 else counted.any(-1)).nonzero().squeeze(-1)
    most = max(_ROWS, _LOGITS // (rows.shape[-1] * batches))
    if len(index) > most:  # evenly over the batch
        index = index[torch.arange(most, device=index.device) * len(index) // most]
    outline = rows.detach().new_zeros(()).expand(rows.shape)
    return Shown(outline, index, flat[index], counted[index])


def _evidence(layout: Layout, given: Logits, shown: Shown, teacher: str) -> Evidence:
    head = layout.objective.head
    if isinstance(given, Projection):
        if teacher:
            as_rows(teacher, given, shown.outline)
        logits = given.logits(shown.index)
    else:
        rows = layout.rows_last(given)
        logits = (_fitting(teacher, rows, shown) if teacher else rows.flatten(0, -2))[shown.index]
    logits = logits.detach().float()
    labels = shown.labels.to(logits.device)
    if teacher:
        everything = torch.ones((), dtype=torch.bool, device=logits.device)
        check_logits(f"teacher {teacher!r}", logits, everything, layout.objective)
    if head == "classes":
        return Evidence(head, logits, labels)
    return Evidence(head, logits, labels, shown.counted)


def _fitting(teacher: str, rows: Tensor, shown: Shown) -> Tensor:
    fitting = as_rows(teacher, rows, shown.outline)
    assert isinstance(fitting, Tensor)  # as it came
    return fitting
