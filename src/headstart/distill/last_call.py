"""What the Distiller tells about its last call."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from headstart.distill.stopping.stopped import Stopped


@dataclass(frozen=True)
class LastCall:
    """What the last distilled call did. Reading a number synchronises the device; keeping this object does not.

    Attributes:
        step: The optimiser step it belonged to.
        teachers: Names of the teachers asked.
        weight: The distillation weight w used.
        stopped: With `stop="auto"`, when and why the window closes, once that is decided; None before.
    """

    step: int
    teachers: tuple[str, ...]
    weight: float
    _task: Tensor
    _distill: Tensor
    _agreement: Tensor | None = None
    _student_accuracy: Tensor | None = None
    _teacher_accuracy: Tensor | None = None
    stopped: Stopped | None = field(default=None, kw_only=True)

    @property
    def task_loss(self) -> float:
        """The task loss, before weighting."""
        return float(self._task)

    @property
    def distill_loss(self) -> float:
        """The distillation loss, before weighting."""
        return float(self._distill)

    @property
    def agreement(self) -> float | None:
        """Share of the distilled rows in which student and teacher have the same top class.

        This and the accuracies are the batch's, in training mode. They come with `Distiller.loss`, for the losses that
        look at one row at a time; None otherwise.
        """
        return _read(self._agreement)

    @property
    def student_accuracy(self) -> float | None:
        """Share of the labelled rows whose label is the student's top class; with a `fraction`, of those distilled."""
        return _read(self._student_accuracy)

    @property
    def teacher_accuracy(self) -> float | None:
        """Share of the distilled rows whose label is the teacher's top class, or that of the mean of several."""
        return _read(self._teacher_accuracy)


def _read(share: Tensor | None) -> float | None:
    return None if share is None else float(share)
