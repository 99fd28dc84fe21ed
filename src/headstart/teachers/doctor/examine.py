"""The examination: which checks are made, on what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill import Teacher, TeacherPool, Window
from headstart.distill.heads.head import Head
from headstart.distill.inputs import Normalisation, device_of
from headstart.distill.losses import LossFunction
from headstart.distill.objective import labelled
from headstart.distill.pool.pool import as_pool
from headstart.distill.targets.source import TargetSource
from headstart.errors import HeadstartError
from headstart.teachers.doctor import checks, observe, trials
from headstart.teachers.doctor.check import Check
from headstart.teachers.doctor.observe import Answers, Batch
from headstart.teachers.doctor.one_teacher import examine_teacher
from headstart.teachers.doctor.student import Forward, Student, of_head, student_logits
from headstart.teachers.doctor.with_losses import examine_losses

_NEEDED = ("forward", "classes", "separate", "logits")  # without these nothing can be distilled at all
_CACHED = Check(
    name="at hand",
    status="warn",
    finding="its targets come from a cache, so there is no teacher to ask",
    advice="examine the teacher itself, before its targets are cached",
)


def doctor(
    model: nn.Module,
    teachers: TeacherPool | nn.Module | TargetSource | Iterable[nn.Module | TargetSource],
    batches: Iterable[Batch],
    *,
    forward: Forward = student_logits,
    normalisation: Normalisation | None = None,
    window: Window | None = None,
    loss: str | LossFunction = "kl",
    temperature: float = 4.0,
    weight: float = 0.9,
    standardize: bool = False,
    parts: Sequence[Batch] | None = None,
    head: Head | None = None,
    class_dim: int | None = None,
) -> list[Check]:
    """Test a set-up on a few batches, before hours are spent on it.

    The student is used as it is, best before its first step, and left as it was. Wrap the call in the autocast of your
    training where that has one.

    Args:
        model: The student.
        teachers: As in `Distiller`.
        batches: Inputs and labels, `[...]` of int64 with -100 for rows without one, on the device. A few: some hundred
            labelled rows in all. With a `head` of labels or values, or with several heads, labels as the Distiller
            takes them. Of others (scores, several at once, mappings) it is said that they are, and what can be
            examined without them is.
        forward: The student's logits `[..., classes]`, from the model and inputs; of several heads as the Distiller
            takes them. By default what the model returns: logits, `logits`, an answer's start and end, or the first of
            a tuple.
        normalisation: Mean and standard deviation, per channel, of the student's images, where it has images.
        window: When to distil, for the forecast of the cost; by default the Distiller's first half.
        loss: As in `Distiller`, and so the next ones.
        temperature: T.
        weight: w.
        standardize: Whether logits are standardised.
        parts: The first batch once more, in micro-batches. By default its tensors are cut in two by their first
            dimension, if they share it.
        head: As in `Distiller`: what the outputs are.
        class_dim: As there: the dimension of the classes, 1 for maps `[batch, classes, height, width]`.

    Returns:
        The checks made. One that needs what is not there (a class of labels, images) is left out.

    Raises:
        HeadstartError: No batches, or a student without logits.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> inputs, labels = torch.randn(64, 2), torch.randint(3, (64,))
        >>> student, stranger = nn.Linear(2, 3), nn.Linear(2, 4)
        >>> [check.finding for check in doctor(student, stranger, [(inputs, labels)]) if check.status == "fail"]
        ["logits [64, 4], the student's [64, 3]"]
    """
    pool, given = as_pool(teachers), list(batches)
    if not given:
        raise HeadstartError("doctor: no batches; give a few pairs of inputs and labels")
    device = device_of(given[0][0])
    with trials.unchanged(model, training=False), torch.no_grad():
        student = Student(model, forward, class_dim, given[0][0])
        found, asked, usable = _of_student(student, given, head)
    fit = []
    for teacher in pool.teachers:
        if not isinstance(teacher, Teacher):
            found.append(_CACHED.about(teacher.name))
            continue
        teacher.to(device)
        about = examine_teacher(teacher, student, asked, normalisation)
        found += [check.about(teacher.name) for check in about]
        if all(check.status != "fail" for check in about if check.name in _NEEDED):
            fit.append(teacher)
    if fit and usable and all(check.status != "fail" for check in found if not check.teacher):
        settings: dict[str, Any] = {"loss": loss, "temperature": temperature, "standardize": standardize}
        settings |= {"head": head, "class_dim": class_dim}
        found += examine_losses(
            fit, student, given[0], parts, weight, settings, draw=pool.draw, window=window or Window(stop=0.5)
        )
    return found


def _of_student(
    student: Student, batches: Sequence[Batch], head: Head | None
) -> tuple[list[Check], list[tuple[Answers, list[Batch]]], bool]:
    """What student and labels show: findings; for each head its answers and batches; whether a loss can be computed."""
    found, asked, usable = [], [], True
    if student.writes:
        found.append(checks.check_unwritten(type(student.model).__name__))
    for place in range(len(student.names) or 1):
        of = of_head(batches, student.names, place)
        name = str(student.names[place]) if student.names else ""
        rows = student.rows(of[0][0], place)
        problem = _problem_of_labels(of, rows, head)
        told = head in ("labels", "values") and all(isinstance(labels, Tensor) for _, labels in of)
        usable &= problem is None or told
        known = of if problem is None else [(inputs, None) for inputs, _ in of]
        own = observe.answers(lambda inputs, place=place: student.rows(inputs, place), known)  # type: ignore[misc]
        asked.append((own, known))
        of_all = [
            _label_range(of, own.shape[-1]) if problem is None else None,
            None if told else checks.check_label_kind(problem),
            checks.check_outputs(own.shape[-1], compares_classes=head in (None, "classes")),
        ]
        found += [check.of_head(name) for check in of_all if check is not None]
    return found, asked, usable


def _problem_of_labels(batches: Sequence[Batch], logits: Tensor, head: Head | None) -> str | None:
    """Why labels are no indices of classes; None where they are."""
    labels = batches[0][1]
    if not all(isinstance(item, Tensor) for _, item in batches):
        kind = next(type(item).__name__ for _, item in batches if not isinstance(item, Tensor))
        return f"labels are a {kind}, no tensor of class indices"
    if head in ("labels", "values"):
        return f"labels are {labels.dtype} of shape {list(labels.shape)}, as head={head!r} has them: no class indices"
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return f"labels are {labels.dtype} of shape {list(labels.shape)}: scores or several labels, no class indices"
    if labels.shape != logits.shape[:-1]:
        maps = logits.dim() > 2 and labels.shape == (logits.shape[0], *logits.shape[2:])
        tell = ": the classes are in dimension 1, give class_dim=1" if maps else ""
        return f"labels of shape {list(labels.shape)} do not fit logits of shape {list(logits.shape)}{tell}"
    return None


def _label_range(batches: Sequence[Batch], classes: int) -> Check:
    labels = torch.cat([labels.flatten() for _, labels in batches])
    labels = labels[labelled(labels)].long()
    if not len(labels):
        raise HeadstartError("doctor: no row of the batches has a label; give batches with labels other than -100")
    return checks.check_label_range(int(labels.min()), int(labels.max()), classes)
