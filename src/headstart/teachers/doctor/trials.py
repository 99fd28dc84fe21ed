"""Trials with a student: gradients, time and memory of distilling steps. The student is left as it was."""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill import Distiller, Teacher
from headstart.distill.heads.several import Names, outputs_of
from headstart.distill.inputs import device_of, each_tensor, tensors
from headstart.distill.objective import labelled
from headstart.teachers.doctor.observe import Batch
from headstart.teachers.doctor.student import Student
from headstart.timing import seconds_of

_REPEATS = 3
_ADAM = 8  # bytes of state for each weight: two numbers in float32


@contextmanager
def unchanged(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Use a model in train or eval mode; its modes, buffers, gradients and torch's random numbers are then put back."""
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    model.train(training)
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
        for module, mode in modes.items():
            module.training = mode


def at_agreement(distiller: Distiller, teacher: Teacher, student: Student, batch: Batch) -> tuple[float, ...]:
    """The loss of a teacher against itself and of the student against it, each with the norm of its gradient.

    Args:
        distiller: With this teacher alone, and weight 1.
        teacher: The teacher.
        student: The student.
        batch: Inputs and labels.

    Returns:
        Loss and gradient norm at the teacher's own logits, then at the student's.
    """
    inputs, labels = batch
    found: list[float] = []
    names = student.names
    theirs = teacher.several(inputs, None, names) if names else teacher.logits(inputs)
    for logits in (_by_name(theirs, names), student.logits(inputs)):
        _, heads = outputs_of(logits, None)
        given = [head.logits.detach().float().requires_grad_() for head in heads]
        whole = _by_name(given if names else given[0], names)
        loss = distiller(given[0].new_zeros(()), whole, inputs, labels=_by_name(labels, names))
        norms = [float(part.norm()) for part in torch.autograd.grad(loss, given)]
        found += [float(loss.detach()), math.hypot(*norms)]
    return tuple(found)


def _by_name(given: Any, names: Names) -> Any:
    """What several heads have, by their names; what has none as it is."""
    return dict(zip(names, given, strict=True)) if names and isinstance(given, tuple | list) else given


def halves(batch: Batch) -> list[Batch] | None:
    """A batch cut in two; None where its tensors have different numbers of rows, or it has only one."""
    lengths: set[int] = set()

    def count(tensor: Tensor) -> Tensor:
        lengths.add(len(tensor) if tensor.dim() else 0)
        return tensor

    each_tensor(count, batch)
    if len(lengths) > 1 or min(lengths) < 2:
        return None
    middle = min(lengths) // 2
    return [each_tensor(itemgetter(part), batch) for part in (slice(middle), slice(middle, None))]


def gradient_difference(
    student: Student, distiller: Distiller, batch: Batch, parts: Sequence[Batch]
) -> tuple[float, torch.dtype]:
    """How far the gradient of a batch is from the sum over its parts, over its norm; and the logits' dtype."""
    parameters = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
    count = int(labelled(next(tensors(batch[1]))).sum())
    dtype = torch.float32

    def gradient(pieces: Sequence[Batch]) -> list[Tensor]:
        nonlocal dtype
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for inputs, labels in pieces:
            logits = student.logits(inputs)
            dtype = next(tensors(logits)).dtype
            loss = distiller.loss(logits, labels, inputs, num_items=count)
            for sum_, part in zip(total, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if part is not None:
                    sum_ += part
        return total

    whole, cut = gradient([batch]), gradient(parts)
    distance = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(whole, cut, strict=True))
    norm = sum(float(a.double().square().sum()) for a in whole)
    return (distance / max(norm, 1e-300)) ** 0.5, dtype


def step_seconds(
    student: Student, closed: Distiller, teachers: Sequence[Teacher], batch: Batch
) -> tuple[float, list[float]]:
    """Median seconds of the student's forward and backward, and of each teacher's forward; measured in turn.

    Args:
        student: The student.
        closed: A Distiller whose window is closed, so that it gives the task loss.
        teachers: Those to time.
        batch: Inputs and labels.
    """
    inputs, labels = batch
    parameters = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
    device = device_of(inputs)

    def step() -> None:
        loss = closed.loss(student.logits(inputs), labels, inputs)
        torch.autograd.grad(loss, parameters, allow_unused=True)

    def ask(teacher: Teacher) -> Any:
        return teacher.several(inputs, None, student.names) if student.names else teacher.logits(inputs)

    calls: list[Callable[[], Any]] = [step, *(partial(ask, teacher) for teacher in teachers)]
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(_REPEATS + 1):
        for index, call in enumerate(calls):
            seconds = seconds_of(call, device)
            if repeat:  # the first warms up
                times[index].append(seconds)
    medians = [statistics.median(item) for item in times]
    return medians[0], medians[1:]


def memory_of_training(model: nn.Module, device: torch.device) -> tuple[int, int] | None:
    """Bytes that training will need at its peak, and bytes that there are; None where neither can be told.

    Call it after a distilling step: the peak so far is read, and the state of an optimiser like Adam is added.
    """
    state = _ADAM * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.max_memory_allocated(device) + state, free + torch.cuda.memory_reserved(device)
    try:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return peak + state, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, AttributeError, ValueError, OSError):
        return None
