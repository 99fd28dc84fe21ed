"""What can be said of one teacher: is it frozen, does it fit, does it know the labels, does it get its images right?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from headstart.distill import Teacher
from headstart.distill.inputs import Normalisation, device_of, first_tensor, is_image, renormalise
from headstart.distill.pool.forward import input_dtype
from headstart.precision import slow_bf16
from headstart.teachers.doctor import checks, observe, training_checks
from headstart.teachers.doctor.check import Check
from headstart.teachers.doctor.observe import Answers, Batch
from headstart.teachers.doctor.student import Student, classes_last

# How images are usually normalised: mean and standard deviation of each channel.
_USUAL: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "values from 0 to 1": ((0.0,), (1.0,)),
    "values from -1 to 1": ((0.5,), (0.5,)),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def examine_teacher(
    teacher: Teacher, student: Student, asked: Sequence[tuple[Answers, Sequence[Batch]]], images: Normalisation | None
) -> list[Check]:
    """What can be said of one teacher alone.

    Args:
        teacher: The teacher.
        student: The student.
        asked: For each head what the student says, and the batches with that head's labels.
        images: As in `doctor`.
    """
    inputs = asked[0][1][0][0]
    found = [checks.check_separate(observe.shared_parameters(student.model, teacher.module))]
    try:
        found.append(_frozen(teacher, inputs, student))
        for head, (own, batches) in enumerate(asked):
            name = str(student.names[head]) if student.names else ""
            found += [check.of_head(name) for check in _of_head(teacher, student, head, own, batches, images)]
    except Exception as error:  # whatever its forward stumbles over is the finding
        reason = " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", [])])
        advice = "it must take the inputs that the student is given; its `size`, or Teacher(prepare=...), changes them"
        return [found[0], Check(name="forward", status="fail", finding=" ".join(reason.split())[:300], advice=advice)]
    precision = "bf16" if _in_bf16(teacher, inputs) else "fp32"
    slow = training_checks.check_precision(slow_bf16(precision, device_of(inputs)))
    return found if slow is None else [*found, slow]


def _of_head(
    teacher: Teacher,
    student: Student,
    head: int,
    own: Answers,
    batches: Sequence[Batch],
    images: Normalisation | None,
) -> list[Check]:
    def logits(asked: Teacher) -> Callable[[Any], Tensor]:
        def rows(inputs: Any) -> Tensor:
            given = asked.several(inputs, None, student.names)[head] if student.names else asked.logits(inputs)
            return classes_last(given, student.class_dim)

        return rows

    said = observe.answers(logits(teacher), batches)
    found = [checks.check_shape(said.shape, own.shape), checks.check_finite(said.bad, said.rows)]
    if said.probabilities:
        found.append(checks.check_probabilities(said.probabilities))
    if said.shape != own.shape or not len(said.labels):
        return found
    found.append(checks.check_labels(said.agreement, said.chance, len(said.labels), renamed=said.renamed))
    if len(said.losses) == len(own.losses):
        gap = own.losses - said.losses
        found.append(checks.check_better(float(gap.mean()), _standard_error(gap), float(said.losses.mean())))
    first = first_tensor(batches[0][0])
    if images is not None and first is not None and is_image(first):
        found.append(_normalisation(teacher, logits, said, batches, images))
    return found


def _in_bf16(teacher: Teacher, inputs: Any) -> bool:
    """Whether its forward computes in bfloat16, by its own will or because the surrounding autocast has it so."""
    kind = device_of(inputs).type
    around = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    own = teacher.dtype or teacher.autocast
    return own == torch.bfloat16 if own is not None else around or input_dtype(teacher.module) == torch.bfloat16


def _frozen(teacher: Teacher, inputs: Any, student: Student) -> Check:
    before = {name: buffer.clone() for name, buffer in teacher.module.named_buffers()}
    teacher.module.train()  # as a parent module's train() would do
    first, second = (_first(teacher, inputs, student) for _ in range(2))
    training = [name for name, module in teacher.module.named_modules() if module.training]
    teacher.module.eval()
    changed = [
        name
        for name, buffer in teacher.module.named_buffers()
        if name in before and not torch.equal(buffer, before[name])
    ]
    return checks.check_frozen(training, changed, observe.spread(first, second))


def _first(teacher: Teacher, inputs: Any, student: Student) -> Tensor:
    """The logits of its first head."""
    return teacher.several(inputs, None, student.names)[0] if student.names else teacher.logits(inputs)


def _normalisation(
    teacher: Teacher,
    logits: Callable[[Teacher], Callable[[Any], Tensor]],
    said: Answers,
    batches: Sequence[Batch],
    student: Normalisation,
) -> Check:
    """Ask the teacher again with images normalised in each of the usual ways."""
    channels = len(student[0])
    right = (said.choices == said.labels).double()
    agreements, errors = {}, {}
    for words, (mean, std) in {**_USUAL, "the student's mean and std": student}.items():
        if len(mean) in (1, channels):
            other = copy.copy(teacher)
            other.prepare = renormalise(student, (_each(mean, channels), _each(std, channels)))
            again = observe.answers(logits(other), batches)
            if len(again.labels) == len(right):
                gap = (again.choices == again.labels).double() - right
                agreements[words], errors[words] = again.agreement, _standard_error(gap)
    return checks.check_normalisation(said.agreement, agreements, errors)


def _each(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * (channels // len(values))


def _standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
