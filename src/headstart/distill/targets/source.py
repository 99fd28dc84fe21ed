"""Targets: what a teacher gives for a batch, computed now or read from a cache.

A target is the dense logits, `[rows, classes]`, what they can be made of, or a sparse form of them. Whatever gives
targets is a `TargetSource`; the Distiller asks all of them in the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headstart.distill.heads.several import Names
from headstart.distill.losses import LossFunction
from headstart.distill.projection import Projection
from headstart.distill.targets.sparse import Sampled, Sparse
from headstart.errors import HeadstartError, TeacherError

Target = Tensor | Projection | Sparse


@dataclass(frozen=True)
class Keys:
    """What tells the augmented inputs of a batch from all others.

    Attributes:
        samples: Indices of the samples in the training set, `[batch]` of int64.
        epoch: How many times the training data has been gone through before.
        partners: Where each sample is mixed with another one (mixup, CutMix): the indices of those, `[batch]` of int64.
    """

    samples: Tensor
    epoch: int
    partners: Tensor | None = None


@dataclass(frozen=True)
class Use:
    """What is to be done with targets.

    Attributes:
        loss: The loss.
        temperature: Its T.
        standardize: Whether logits are standardised first.
        asked: How many teachers are averaged at a step.
    """

    loss: LossFunction
    temperature: float
    standardize: bool
    asked: int


class TargetSource(ABC):
    """Whatever gives targets: a live teacher, or a cache of what one gave.

    Attributes:
        name: The teacher's, for messages and records.
        sparse: Whether it gives sparse forms and not logits.
    """

    name: str
    sparse: bool = False

    @abstractmethod
    def targets(self, inputs: Any, keys: Keys | None) -> Target:
        """The targets of a batch, without gradient.

        Args:
            inputs: What the student was given.
            keys: Which inputs these are, where that is known; a cache looks them up by it.

        Returns:
            Logits, `[..., classes]`, hidden states and the head that makes logits of them, or a sparse form of as many
            rows.

        Raises:
            TeacherError: There are none for this batch.
        """

    def several(self, inputs: Any, keys: Keys | None, names: Names) -> list[Tensor]:
        """The targets of a model with several heads: logits for each.

        Args:
            inputs: As in `targets`.
            keys: As there.
            names: Of the heads, or their numbers where they have none.

        Raises:
            HeadstartError: There are none such.
        """
        raise HeadstartError(
            f"{self.name}: has targets of one head, and the student gives {', '.join(map(repr, names))}; distil from "
            "live teachers, or give the Distiller the logits of one head"
        )

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Give the targets on this device from now on."""

    @abstractmethod
    def check(self, use: Use) -> None:
        """Make sure that the targets are good for what is to be done with them.

        Raises:
            HeadstartError: They are not; says which setting to change.
        """


def check_sparse(name: str, form: type[Sparse], temperature: float, use: Use) -> None:
    """Refuse a use that sparse targets are not good for.

    Args:
        name: Where the targets come from, for the message.
        form: `TopK` or `Sampled`.
        temperature: At which they were made.
        use: What is to be done with them.

    Raises:
        HeadstartError: They are not good for it; says which setting to change.
    """
    kind = "sampled" if form is Sampled else "top-k"
    if use.loss not in form.losses:
        fitting, wanted = " or ".join(_named(loss) for loss in form.losses), _named(use.loss)
        raise HeadstartError(
            f"{name}: {kind} targets are good for loss={fitting} and not for {wanted}; change the loss, or cache full "
            "targets"
        )
    if use.temperature != temperature:
        raise HeadstartError(
            f"{name}: its {kind} targets were made at temperature {temperature:g} and are good for no other; set "
            f"temperature={temperature:g} (now {use.temperature:g}), or make the cache again"
        )
    if use.standardize:
        raise HeadstartError(f"{name}: standardize needs all logits, not {kind} targets; cache full targets")
    if use.asked > 1:
        raise HeadstartError(
            f"{name}: {kind} targets of {use.asked} teachers cannot be averaged; ask one a step (draw=1), or cache "
            "full targets"
        )


def _named(loss: LossFunction) -> str:
    return getattr(loss, "__name__", "a function")


def as_rows(name: str, target: Target, logits: Tensor) -> Target:
    """A target as one for each row of the student's logits.

    Args:
        name: The teacher's.
        target: What it gave.
        logits: The student's, `[..., classes]`.

    Returns:
        Dense logits as `[rows, classes]`; other forms as they are.

    Raises:
        TeacherError: Rows or classes differ.
    """
    rows = logits.flatten(0, -2)
    if isinstance(target, Tensor):
        fits, shape = target.shape in (logits.shape, rows.shape), tuple(target.shape)
    else:
        shape = _shape(target)
        fits = shape == tuple(rows.shape)
    if not fits:
        raise TeacherError(
            f"teacher {name!r} gives logits of shape {shape}, the student {tuple(logits.shape)}; "
            "both need the same classes in the same order for the same batch" + _padded(shape, logits)
        )
    return target.flatten(0, -2) if isinstance(target, Tensor) else target


def _shape(target: Projection | Sparse) -> tuple[int, int]:
    """Of the logits that a target stands for."""
    if isinstance(target, Projection):
        return len(target.hidden), len(target.weight)
    return len(target.indices), target.classes


def _padded(shape: tuple[int, ...], logits: Tensor) -> str:
    """What to do where vocabularies of one tokenizer may be padded to different sizes; empty where the rows differ."""
    own, student = shape[-1], logits.shape[-1]
    if own == student or shape[:-1] not in (logits.shape[:-1], (logits.shape[:-1].numel(),)):
        return ""
    if own > student:
        return (
            f". If these are vocabularies of one tokenizer, padded differently, take the teacher's first {student}: "
            f"classes={student} of Teacher, vocabulary={student} of load_teacher's options"
        )
    return (
        ". If these are vocabularies of one tokenizer, padded differently, take as many of the teacher's (vocabulary="
        f"{student} of load_teacher's options) where it has them, or resize the student's embedding to {own}"
    )


def numbered(names: Sequence[str]) -> list[str]:
    """Names told apart: those that occur several times get a number each.

    Example:
        >>> numbered(["old", "new", "old"])
        ['old #1', 'new', 'old #2']
    """
    return [
        f"{name} #{names[: index + 1].count(name)}" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]
