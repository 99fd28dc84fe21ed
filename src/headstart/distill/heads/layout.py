"""How a head's outputs and labels lie, brought into one form: outputs `[..., outputs]`, the last dimension a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from headstart.distill.heads.head import MEANING, Head
from headstart.distill.losses import dkd
from headstart.distill.objective import IGNORED, Objective
from headstart.distill.pool.teacher import Teacher
from headstart.distill.targets.source import TargetSource
from headstart.errors import HeadstartError

_MAPS = 4  # dimensions from which on the classes of outputs are as likely to be the second as the last one
_ROUNDING = 1e-3  # of the sum of a row of probabilities


@dataclass
class Layout:
    """What the Distiller was told of the outputs, with which batches are held against it.

    Attributes:
        head: What a row means; None: not told, and so classes where a batch does not contradict.
        class_dim: Which dimension of outputs a row lies in; None: not told, and so the last where that is certain.
        objective: What is done with them.
    """

    head: Head | None
    class_dim: int | None
    objective: Objective
    _labels_seen: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.class_dim == 0:
            raise HeadstartError("class_dim=0 is the batch's dimension; maps [batch, classes, height, width] have 1")

    def check_teachers(self, sources: Sequence[TargetSource]) -> None:
        """Refuse teachers whose side of things counts on what these outputs are not: classes that come last, or logits.

        Raises:
            HeadstartError: One is not live, or picks some of its classes; or it divides values by a temperature.
        """
        for source in sources:
            if self.head == "values" and isinstance(source, Teacher) and source.temperature != 1.0:
                raise HeadstartError(
                    f"teacher {source.name!r}: temperature={source.temperature} divides logits, and head='values' has "
                    "none; leave it out"
                )
        if self.class_dim in (None, -1):
            return
        for source in sources:
            if not isinstance(source, Teacher):
                raise HeadstartError(
                    f"{source.name}: stored targets are rows whose classes come last, and class_dim={self.class_dim}; "
                    "distil maps from live teachers"
                )
            if source.classes is not None:
                raise HeadstartError(
                    f"teacher {source.name!r}: classes= picks from the last dimension, and class_dim={self.class_dim}; "
                    "pick them in the module's forward"
                )

    def of_student(self, outputs: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A student's outputs with their rows last, and its labels in the order of them.

        Args:
            outputs: As the model gave them.
            labels: As the loop has them: `[...]`, or of the outputs' shape.

        Returns:
            Outputs `[..., outputs]`; labels `[...]`, or `[..., outputs]`.

        Raises:
            HeadstartError: They contradict what is known of the head, or do not fit each other.
        """
        if not outputs.is_floating_point():
            raise HeadstartError(
                f"the student's outputs are {outputs.dtype} of shape {tuple(outputs.shape)}, and no logits; give what "
                "its last layer computes, before an argmax or a threshold"
            )
        if self.class_dim is None and not self._by_output(labels):
            self._check_dimension(outputs, labels)
        rows = self.rows_last(outputs)
        if self._compares_classes and rows.shape[-1] == 1:
            raise HeadstartError(
                f"the student has one output {tuple(outputs.shape)}, and a softmax over one class is 1 whatever the "
                "logit, so this loss says nothing of it. For a number (regression, a reward model) set head='values' "
                "and loss='mse' or 'huber'; for a yes-or-no logit set head='labels'"
            )
        if labels is None:
            return rows, None
        return rows, self._of_classes(labels, outputs, rows) if self._classes else self._of_outputs(labels, rows)

    def rows_last(self, outputs: Tensor) -> Tensor:
        """Outputs with the dimension of their rows last; a number for each sample is a row of one."""
        if outputs.dim() == 0:
            raise HeadstartError("a scalar is no output of a batch; give the logits, [batch, classes]")
        if outputs.dim() == 1:
            return outputs.unsqueeze(-1)
        if self.class_dim is None or self.class_dim == -1:
            return outputs
        if not -outputs.dim() < self.class_dim < outputs.dim():
            raise HeadstartError(f"class_dim={self.class_dim}: outputs of shape {tuple(outputs.shape)} have none such")
        return outputs.movedim(self.class_dim, -1)

    @property
    def assumes_classes(self) -> bool:
        """Whether the loss compares classes with each other, and nobody said that these are classes."""
        return self.head is None and self._compares_classes

    @property
    def may_be_tokens(self) -> bool:
        """Whether the last dimension may be a vocabulary."""
        return self._classes and self.class_dim in (None, -1)

    @property
    def _classes(self) -> bool:
        return self.head in (None, "classes")

    @property
    def _compares_classes(self) -> bool:
        """Whether the loss is known to hold the outputs of a row against each other."""
        return self._classes and self.objective.known and not self.objective.elementwise

    def _by_output(self, labels: Tensor | None) -> bool:
        """Whether it does not matter which outputs are a row."""
        return self.objective.elementwise and (labels is None or not self._classes)

    def _check_dimension(self, outputs: Tensor, labels: Tensor | None) -> None:
        """Refuse outputs whose rows may lie in another dimension than the last, unless the labels tell."""
        shape = tuple(outputs.shape)
        last = labels is not None and labels.shape == shape[:-1]
        second = labels is not None and len(shape) > 2 and labels.shape == (shape[0], *shape[2:])
        if (second and not last) or (len(shape) >= _MAPS and second == last):
            raise HeadstartError(
                f"logits of shape {shape}: nothing tells for certain which dimension the classes are in. Set "
                "class_dim=1 for maps [batch, classes, height, width], as segmentation models give them, or "
                "class_dim=-1 where the classes come last"
            )

    def _of_classes(self, labels: Tensor, outputs: Tensor, rows: Tensor) -> Tensor:
        if labels.shape == rows.shape[:-1]:
            if self.objective.loss.function is dkd and labels.is_floating_point():
                raise HeadstartError(
                    "dkd takes the class of each row, as int64, or the probability of each class, "
                    f"{tuple(rows.shape)}; the labels are {labels.dtype} of shape {tuple(labels.shape)}"
                )
            if labels.is_floating_point():
                return labels
            labels = labels.long()
            self._look_at(labels, lambda: _check_range(labels, rows.shape[-1]))
            return labels
        if labels.shape == outputs.shape and labels.is_floating_point():
            labels = self.rows_last(labels)
            self._look_at(labels, lambda: self._check_mixtures(labels))
            return labels
        if labels.shape == outputs.shape:
            raise HeadstartError(f"{self._told(labels)}; {_TELL}")
        raise HeadstartError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(outputs.shape)}; give one class "
            "index for each row, or leave them out where the loss does not need them"
        )

    def _look_at(self, labels: Tensor, check: Callable[[], None]) -> None:
        """Check labels once, as that waits for the device."""
        if not self._labels_seen:
            check()
            self._labels_seen = labels.numel() > 0

    def _check_mixtures(self, labels: Tensor) -> None:
        """Refuse floats that are no probabilities of classes, or that may as well be something else."""
        rows = labels.flatten(0, -2)
        rows = rows[(rows != IGNORED).any(-1)]
        sums = ((rows >= 0).all(-1) & ((rows.sum(-1) - 1.0).abs() < _ROUNDING)).all()
        certain = self.head is not None or self.objective.loss.function is dkd
        if not sums or not (certain or bool(((rows > 0) & (rows < 1)).any())):
            raise HeadstartError(f"{self._told(labels)}; {_TELL}")

    def _told(self, labels: Tensor) -> str:
        told = "the head was not told" if self.head is None else f"head={self.head!r} ({MEANING[self.head]})"
        return f"labels of the logits' shape {tuple(labels.shape)}, {labels.dtype}: {told}"

    def _of_outputs(self, labels: Tensor, rows: Tensor) -> Tensor:
        if rows.shape[-1] == 1 and labels.shape == rows.shape[:-1]:
            return labels.unsqueeze(-1)
        there = self.rows_last(labels) if labels.dim() else labels
        if there.shape != rows.shape:
            raise HeadstartError(
                f"labels of shape {tuple(labels.shape)} do not fit: head={self.head!r} takes one for each output, "
                f"{tuple(rows.shape)}; leave them out where nothing is to be left out"
            )
        return there


def _check_range(labels: Tensor, classes: int) -> None:
    """Refuse labels that are neither a class nor -100."""
    if not labels.numel():
        return
    known = torch.where(labels == IGNORED, 0, labels)
    lowest, highest = torch.stack([known.min(), known.max()]).tolist()
    if lowest < 0 or highest >= classes:
        strange = lowest if lowest < 0 else highest
        raise HeadstartError(
            f"a label is {strange}, and the student has the classes 0 to {classes - 1}; rows without a class are "
            f"labelled {IGNORED}. Where {strange} stands for none (an ignore_index), give labels="
            f"labels.masked_fill(labels == {strange}, {IGNORED})"
        )


_TELL = (
    "set head='labels' for several yes-or-no labels (sigmoids), head='values' with loss='mse' or 'huber' for numbers "
    "(regression), head='classes' for mixtures of classes (soft labels, rows of probabilities that sum to 1)"
)
