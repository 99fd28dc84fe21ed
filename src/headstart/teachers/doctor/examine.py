"""The examination: which checks are made, on what."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill import Distiller, Teacher, TeacherPool, Window
from headstart.distill.heads.head import Head
from headstart.distill.inputs import Normalisation, first_tensor, is_image, renormalise
from headstart.distill.losses import LossFunction
from headstart.distill.objective import IGNORED
from headstart.distill.pool.pool import as_pool
from headstart.distill.targets.source import TargetSource
from headstart.errors import HeadstartError
from headstart.teachers.doctor import checks, observe, trials
from headstart.teachers.doctor.check import Check
from headstart.teachers.doctor.observe import Answers, Batch, Forward

# How images are usually normalised: mean and standard deviation of each channel.
_USUAL: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "values from 0 to 1": ((0.0,), (1.0,)),
    "values from -1 to 1": ((0.5,), (0.5,)),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


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
    forward: Forward = observe.student_logits,
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
            labelled rows in all. Of other labels (scores, several at once, mappings) it is said that they are, and what
            can be examined without them is.
        forward: The student's logits `[..., classes]`, from the model and inputs.
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
    device = trials.device_of(given[0][0])
    student = _Student(model, lambda inputs: forward(model, inputs), class_dim)
    with trials.unchanged(model, training=False), torch.no_grad():
        problem = _problem_of_labels(given, student.rows(given[0][0]), head)
        known = given if problem is None else [(inputs, None) for inputs, _ in given]
        own = observe.answers(student.rows, known)
    found = [_label_range(given, own.shape[-1])] if problem is None else []
    of_all = (
        checks.check_label_kind(problem),
        checks.check_outputs(own.shape[-1], compares_classes=head in (None, "classes")),
    )
    found += [check for check in of_all if check is not None]
    fit = []
    for teacher in pool.teachers:
        if not isinstance(teacher, Teacher):
            found.append(_CACHED.about(teacher.name))
            continue
        teacher.to(device)
        about = _examine(teacher, student, own, known, normalisation)
        found += [check.about(teacher.name) for check in about]
        if all(check.status != "fail" for check in about if check.name in _NEEDED):
            fit.append(teacher)
    if fit and problem is None and all(check.status == "pass" for check in found if not check.teacher):
        settings: dict[str, Any] = {"loss": loss, "temperature": temperature, "standardize": standardize}
        settings |= {"head": head, "class_dim": class_dim}
        try:
            found += _with_losses(fit, student, given[0], parts, weight, settings)
            if class_dim in (None, -1):
                found += _costs(fit, student, given[0], pool.draw, window or Window(stop=0.5))
        except HeadstartError as error:  # what training would be refused for
            advice = "the Distiller refuses it in training too; change what it names"
            found.append(Check(name="loss", status="fail", finding=str(error), advice=advice))
    return found


@dataclass(frozen=True)
class _Student:
    """The student's module, and its logits of inputs."""

    model: nn.Module
    logits: Callable[[Any], Tensor]
    class_dim: int | None = None

    def rows(self, inputs: Any) -> Tensor:
        """Its logits with the classes last."""
        return _classes_last(self.logits(inputs), self.class_dim)


def _classes_last(logits: Tensor, class_dim: int | None) -> Tensor:
    logits = logits.unsqueeze(-1) if logits.dim() == 1 else logits
    return logits if class_dim is None else logits.movedim(class_dim, -1)


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
    labels = labels[labels != IGNORED]
    if not len(labels):
        raise HeadstartError("doctor: no row of the batches has a label; give batches with labels other than -100")
    return checks.check_label_range(int(labels.min()), int(labels.max()), classes)


def _examine(
    teacher: Teacher, student: _Student, own: Answers, batches: Sequence[Batch], normalisation: Normalisation | None
) -> list[Check]:
    """What can be said of one teacher alone."""
    found = [checks.check_separate(observe.shared_parameters(student.model, teacher.module))]
    try:
        frozen = _frozen(teacher, batches[0][0])
        said = observe.answers(lambda inputs: _classes_last(teacher.logits(inputs), student.class_dim), batches)
    except Exception as error:  # whatever its forward stumbles over is the finding
        reason = " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", [])])
        advice = "it must take the inputs that the student is given; its `size`, or Teacher(prepare=...), changes them"
        return [*found, Check(name="forward", status="fail", finding=" ".join(reason.split())[:300], advice=advice)]
    found += [frozen, checks.check_shape(said.shape, own.shape), checks.check_finite(said.bad, said.rows)]
    if said.probabilities:
        found.append(checks.check_probabilities(said.probabilities))
    if said.shape != own.shape or not len(said.labels):
        return found
    found.append(checks.check_labels(said.agreement, said.chance, len(said.labels), renamed=said.renamed))
    if len(said.losses) == len(own.losses):
        gap = own.losses - said.losses
        found.append(checks.check_better(float(gap.mean()), _standard_error(gap), float(said.losses.mean())))
    images = first_tensor(batches[0][0])
    if normalisation is not None and images is not None and is_image(images):
        found.append(_normalisation(teacher, said, batches, normalisation))
    return found


def _frozen(teacher: Teacher, inputs: Any) -> Check:
    before = {name: buffer.clone() for name, buffer in teacher.module.named_buffers()}
    teacher.module.train()  # as a parent module's train() would do
    first, second = teacher.logits(inputs), teacher.logits(inputs)
    training = [name for name, module in teacher.module.named_modules() if module.training]
    teacher.module.eval()
    changed = [
        name
        for name, buffer in teacher.module.named_buffers()
        if name in before and not torch.equal(buffer, before[name])
    ]
    return checks.check_frozen(training, changed, observe.spread(first, second))


def _normalisation(teacher: Teacher, said: Answers, batches: Sequence[Batch], student: Normalisation) -> Check:
    """Ask the teacher again with images normalised in each of the usual ways."""
    channels = len(student[0])
    right = (said.choices == said.labels).double()
    agreements, errors = {}, {}
    for words, (mean, std) in {**_USUAL, "the student's mean and std": student}.items():
        if len(mean) in (1, channels):
            other = copy.copy(teacher)
            other.prepare = renormalise(student, (_each(mean, channels), _each(std, channels)))
            again = observe.answers(other.logits, batches)
            if len(again.labels) == len(right):
                gap = (again.choices == again.labels).double() - right
                agreements[words], errors[words] = again.agreement, _standard_error(gap)
    return checks.check_normalisation(said.agreement, agreements, errors)


def _each(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * (channels // len(values))


def _with_losses(
    teachers: Sequence[Teacher],
    student: _Student,
    batch: Batch,
    parts: Sequence[Batch] | None,
    weight: float,
    settings: dict[str, Any],
) -> list[Check]:
    """What the loss does: at agreement, and when a batch is cut."""
    found = []
    with trials.unchanged(student.model, training=False):
        for teacher in teachers:
            alone = Distiller(teacher, total_steps=1, stop=1.0, weight=1.0, **settings)
            values = trials.at_agreement(alone, teacher, student.logits, batch)
            found.append(checks.check_zero_at_agreement(values[0], values[1], values[2], values[3]).about(teacher.name))
        parts = parts or trials.halves(batch)
        if parts is not None:
            distiller = Distiller(teachers[0], total_steps=1, stop=1.0, weight=weight, **settings)
            difference, dtype = trials.gradient_difference(student.model, student.logits, distiller, batch, parts)
            found.append(checks.check_micro_batches(difference, 1e-3 if dtype.itemsize > 2 else 5e-2))
    return found


def _costs(teachers: Sequence[Teacher], student: _Student, batch: Batch, draw: int, window: Window) -> list[Check]:
    """Time and memory of distilling steps."""
    with trials.unchanged(student.model, training=True):
        step, forwards = trials.step_seconds(student.model, student.logits, teachers, batch)
    forward = min(draw, len(teachers)) * sum(forwards) / len(forwards)
    steps = 10_000  # so many that the window's ends fall between them
    found = [checks.check_cost(step, forward, window.distilled_steps(steps) / steps)]
    memory = trials.memory_of_training(student.model, trials.device_of(batch[0]))
    return found if memory is None else [*found, checks.check_memory(*memory)]


def _standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
