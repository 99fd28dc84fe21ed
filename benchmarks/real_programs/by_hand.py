"""Distilling by hand in plain torch: the reference. Nothing of headstart is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

T = 4.0
WEIGHT = 0.9
Value = Callable[..., Tensor]


def frozen(load: Callable[[], Any]) -> Any:
    """A teacher, loaded without drawing from the generator that the training draws from."""
    with torch.random.fork_rng():
        return load().eval().requires_grad_(False)


def rows_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """T^2 KL(teacher || student) of each row."""
    logs = F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)
    return T**2 * F.kl_div(*logs, log_target=True, reduction="none").sum(-1)


def mixed(task: Tensor, distilled: Tensor) -> Tensor:
    """Both losses."""
    return (1 - WEIGHT) * task + WEIGHT * distilled


def classes(student: Any, teacher: Any, inputs: Any, _: Any) -> Tensor:
    """Of samples, the mean."""
    return rows_kl(student.logits, teacher.logits).mean()


def tokens(student: Any, teacher: Any, inputs: Any, _: Any) -> Tensor:
    """Of labelled tokens, the mean."""
    return rows_kl(student.logits, teacher.logits)[inputs["labels"] != -100].mean()


def next_tokens(student: Any, teacher: Any, inputs: Any, count: Any) -> Tensor:
    """Of labelled next tokens, their sum over the labels of the whole step."""
    labelled = inputs["labels"][:, 1:] != -100
    total: Tensor = rows_kl(student.logits[:, :-1], teacher.logits[:, :-1])[labelled].sum()
    return total / float(count)


def answers(student: Any, teacher: Any, inputs: Any, _: Any) -> Tensor:
    """Of starts and ends, the mean."""
    starts = rows_kl(student.start_logits, teacher.start_logits)
    return (starts + rows_kl(student.end_logits, teacher.end_logits)).mean() / 2


def labels(student: Any, teacher: Any, inputs: Any, _: Any) -> Tensor:
    """Of yes-or-no labels, the mean of the KL between both outcomes."""
    p, q = torch.sigmoid(teacher.logits / T), torch.sigmoid(student.logits / T)
    rows: Tensor = T**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    return rows.mean()


def values(student: Any, teacher: Any, inputs: Any, _: Any) -> Tensor:
    """The mean squared difference."""
    difference: Tensor = student.logits - teacher.logits
    return difference.square().mean()


def pixels(student: Any, teacher: Any, inputs: Any, _: Any) -> Tensor:
    """Of maps, the mean over the pixels of the logits; a pixel counts by the label at its upper left corner."""
    step = inputs["labels"].shape[-1] // student.logits.shape[-1]
    labelled = inputs["labels"][:, ::step, ::step] != 255
    return rows_kl(student.logits.movedim(1, -1), teacher.logits.movedim(1, -1))[labelled].mean()


class ByHand:
    """Goes before a Trainer's class.

    Args:
        *args: The Trainer's, as all others.
        teacher: A model.
        value: One of the functions above.
        anew: Whether the Trainer's loss hides the student's logits, so that they are made once more.
    """

    def __init__(self, *args: Any, teacher: Any, value: Value, anew: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher, self.value, self.anew = teacher, value, anew

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Both losses. The teacher makes of the labels what the student makes of them."""
        given = dict(inputs)
        trainer: Any = super()
        if self.anew:
            state = torch.get_rng_state()
            task = trainer.compute_loss(model, inputs, False, num_items_in_batch)
            torch.set_rng_state(state)  # for the same dropout
            outputs = model(**{name: value for name, value in given.items() if name != "labels"})
        else:
            task, outputs = trainer.compute_loss(model, inputs, True, num_items_in_batch)
        with torch.no_grad():
            teacher = self.teacher(**given)
        return mixed(task, self.value(outputs, teacher, given, num_items_in_batch))
