"""Both losses row by row, and the gradient for the student's logits, a few rows at a time.

A chunk of rows stays in the processor's cache while all of it is computed there, in at least float32. Of the logits'
full size nothing is written but the gradient, in the logits' own dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.fused import cuda
from headstart.distill.fused.closed_forms import (
    CLOSED_FORMS,
    Factors,
    cross_entropy,
    exponentials,
    shifted,
    subtract_target,
)
from headstart.distill.fused.terms import Rows, Terms
from headstart.distill.losses import widen
from headstart.distill.objective import IGNORED
from headstart.distill.pool.pool import average_logits

# Elements of a chunk. On the CPU its four buffers should fit the cache, and be worth dividing among the threads; on a
# GPU a chunk has to keep the device busy, and be small beside the logits all the same.
_CHUNK_CPU, _CHUNK_CPU_THREAD, _CHUNK_GPU = 2**18, 2**16, 2**21


def values_by_torch(rows: Rows, terms: Terms) -> Tensor:
    """What `fill` gives as values, differentiable, and of all rows at once."""
    assert terms.objective is not None
    logits, labels = widen(rows.student), rows.classes
    task = F.cross_entropy(logits, labels, reduction="none", label_smoothing=terms.label_smoothing)
    student, teacher = terms.objective.sides(logits, rows.teachers, terms.shares)
    teacher = rows.finite(teacher)
    distill = terms.objective.values(student, teacher, labels)
    tops = [side.detach() - side.detach().amax(-1, keepdim=True) for side in (logits, teacher)]
    return torch.stack([task, distill, *_matches(tops[0], tops[1], labels.unsqueeze(-1), torch.empty_like(tops[0]))])


def fill(rows: Rows, terms: Terms, factors: Tensor, values: Tensor, gradient: Tensor) -> None:
    """Compute values and gradient of all rows.

    Args:
        rows: The rows.
        terms: What to compute of them.
        factors: What the gradients of a row's task and distillation loss are multiplied by, `[2, rows]`; 0 for a loss
            that a row does not count in.
        values: Filled in, `[5, rows]`, at least float32: a row's task loss, its distillation loss, and 1 or 0 for
            whether student and teacher agree, whether the student is right, and whether the teacher is. What is there
            for rows that do not count has no meaning.
        gradient: Filled in, `[rows, classes]`; may be the student's logits themselves where no row is labelled -100.
    """
    if cuda.applies(rows, terms):
        return cuda.fill(rows, terms, factors, values, gradient)
    if rows.keep is not None and rows.keep.device.type == "cpu" and bool((rows.keep | (rows.labels == IGNORED)).all()):
        # Those labelled are kept, and no others taken. A GPU would have to be waited for.
        rows = replace(rows, keep=None)
    classes, size = rows.student.shape[-1], rows_of_chunk(rows.student)
    buffers = values.new_empty(4, min(size, len(rows.labels)), classes) if terms.closed_form else None
    if _skips(rows.labels):
        gradient.zero_()
    for index in chunks(rows.labels, size):
        part, parts_factors = rows.part(index), Factors(*factors[:, index].unsqueeze(-1))
        if buffers is None:
            values[:, index], result = _by_autograd(part, terms, parts_factors)
        else:
            values[:, index], result = _closed_form(part, terms, parts_factors, buffers[:, : len(part.student)])
        gradient[index] = result if isinstance(index, slice) else result.to(gradient.dtype)


def chunks(labels: Tensor, size: int) -> Iterator[slice | Tensor]:
    """Which rows to compute, a few at a time; on the CPU without those labelled -100, which a GPU would have to report.

    Args:
        labels: `[rows]` of int64.
        size: Rows of a chunk, at most.
    """
    if _skips(labels):
        yield from torch.split((labels != IGNORED).nonzero().squeeze(-1), size)
    else:
        yield from (slice(begin, begin + size) for begin in range(0, len(labels), size))


def rows_of_chunk(logits: Tensor) -> int:
    """How many rows of such logits are computed at once."""
    return max(1, _elements(logits.device) // logits.shape[-1])


def _elements(device: torch.device) -> int:
    return max(_CHUNK_CPU, _CHUNK_CPU_THREAD * torch.get_num_threads()) if device.type == "cpu" else _CHUNK_GPU


def _skips(labels: Tensor) -> bool:
    return labels.device.type == "cpu" and bool((labels == IGNORED).any())


def _by_autograd(rows: Rows, terms: Terms, factors: Factors) -> tuple[Tensor, Tensor]:
    logits = widen(rows.student).detach().requires_grad_()
    with torch.enable_grad():
        values = values_by_torch(replace(rows, student=logits), terms)
        total = (values[:2] * torch.cat(factors, -1).T).sum()
        (gradient,) = torch.autograd.grad(total, logits)
    return values.detach(), gradient


def _closed_form(rows: Rows, terms: Terms, factors: Factors, buffers: Tensor) -> tuple[Tensor, Tensor]:
    labels, objective = rows.classes.unsqueeze(-1), terms.objective
    student = shifted(rows.student, out=buffers[0])
    hard = exponentials(student.logits, 1.0, out=buffers[1])
    task = cross_entropy(student, hard, labels, terms.label_smoothing)
    if objective is None:
        values = task.new_zeros(5, len(task))
        values[0], values[3] = task.squeeze(-1), student.logits.gather(-1, labels).squeeze(-1) == 0
        gradient = hard.terms.mul_(factors.task / hard.norm)
    else:
        mean = average_logits(rows.teachers, terms.shares, by=objective.average, temperature=objective.temperature)
        teacher = shifted(rows.finite(mean), out=buffers[2])
        matches = _matches(student.logits, teacher.logits, labels, buffers[3])
        form = CLOSED_FORMS[objective.loss.function]
        distill, gradient = form(student, teacher, hard, objective.temperature, factors, spare=buffers[3])
        values = torch.cat([torch.cat([task, distill], -1).T, matches])
    subtract_target(gradient, labels, terms.label_smoothing, factors.task)
    return values, gradient


def _matches(student: Tensor, teacher: Tensor, labels: Tensor, out: Tensor) -> Tensor:
    """Of shifted logits: whether both share a top class, whether the label is one of each; `[3, rows]` of 1 or 0.

    A class is a top class where its logit is the row's largest, so that ties count for all of them: torch.argmax would
    break them, and take longer than all the rest.
    """
    both = torch.add(student, teacher, out=out).amax(-1, keepdim=True)
    return (torch.cat([both, student.gather(-1, labels), teacher.gather(-1, labels)], -1).T == 0).to(student.dtype)
