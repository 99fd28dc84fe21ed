"""Trials with a student: gradients, time and memory of distilling steps. The student is left as it was."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller, Teacher
from headstart.distill.inputs import each_tensor, first_tensor
from headstart.distill.objective import IGNORED
from headstart.teachers.doctor.observe import Batch

_REPEATS = 3
_ADAM = 8  # bytes of state for each weight: two numbers in float32

Logits = Callable[[Any], Tensor]


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


def at_agreement(distiller: Distiller, teacher: Teacher, student: Logits, batch: Batch) -> tuple[float, ...]:
    """The loss of a teacher against itself and of the student against it, each with the norm of its gradient.

    Args:
        distiller: With this teacher alone, and weight 1.
        teacher: The teacher.
        student: The student's logits of inputs.
        batch: Inputs and labels.

    Returns:
        Loss and gradient norm at the teacher's own logits, then at the student's.
    """
    inputs, labels = batch
    found: list[float] = []
    for logits in (teacher.logits(inputs), student(inputs)):
        given = logits.detach().float().requires_grad_()
        loss = distiller(given.new_zeros(()), given, inputs, labels=labels)
        found += [float(loss.detach()), float(torch.autograd.grad(loss, given)[0].norm())]
    return tuple(found)


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
    model: nn.Module, student: Logits, distiller: Distiller, batch: Batch, parts: Sequence[Batch]
) -> tuple[float, torch.dtype]:
    """How far the gradient of a batch is from the sum over its parts, over its norm; and the logits' dtype."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = int((batch[1] != IGNORED).sum())
    dtype = torch.float32

    def gradient(pieces: Sequence[Batch]) -> list[Tensor]:
        nonlocal dtype
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for inputs, labels in pieces:
            logits = student(inputs)
            dtype = logits.dtype
            task = _task_loss(logits, labels, count)
            loss = distiller(task, logits, inputs, labels=labels, num_items=count)
            for sum_, part in zip(total, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if part is not None:
                    sum_ += part
        return total

    whole, cut = gradient([batch]), gradient(parts)
    distance = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(whole, cut, strict=True))
    norm = sum(float(a.double().square().sum()) for a in whole)
    return (distance / max(norm, 1e-300)) ** 0.5, dtype


def step_seconds(
    model: nn.Module, student: Logits, teachers: Sequence[Teacher], batch: Batch
) -> tuple[float, list[float]]:
    """Median seconds of the student's forward and backward, and of each teacher's forward; measured in turn."""
    inputs, labels = batch
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = labels.device

    def step() -> None:
        loss = _task_loss(student(inputs), labels, max(len(labels), 1))
        torch.autograd.grad(loss, parameters, allow_unused=True)

    calls: list[Callable[[], Any]] = [step, *(lambda t=teacher: t.logits(inputs) for teacher in teachers)]
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(_REPEATS + 1):
        for index, call in enumerate(calls):
            seconds = _seconds(call, device)
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


def _task_loss(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    rows = logits.flatten(0, -2)
    return F.cross_entropy(rows.float(), labels.flatten(), ignore_index=IGNORED, reduction="sum") / max(count, 1)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    begin = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def device_of(inputs: Any) -> torch.device:
    """Where a batch's inputs lie."""
    tensor = first_tensor(inputs)
    return tensor.device if tensor is not None else torch.device("cpu")
