"""The losses of one class of many, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from headstart.distill.losses.correlation import dist
from headstart.distill.losses.decoupled import dkd
from headstart.distill.losses.distances import huber, mse
from headstart.distill.losses.divergences import jsd, kl, reverse_kl

Average: TypeAlias = Literal["probability", "logit"]


class LossFunction(Protocol):
    """What a distillation loss looks like; any such function can be given to the Distiller in place of a name."""

    def __call__(self, student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
        """Map logits `[rows, classes]` to the loss of each row, `[rows]`, from that row alone."""
        ...


@dataclass(frozen=True)
class Loss:
    """A loss with what the Distiller has to know about it.

    Attributes:
        function: The loss itself.
        average: How several teachers are averaged unless told otherwise. For kl, reverse_kl and mse it is the mean
            whose gradient one teacher drawn at random estimates without bias: of the tempered probabilities where the
            loss is linear in them (but for a constant), of the logits where its gradient is linear in those. The other
            losses have no such mean.
        across_rows: Whether a row's value depends on the other rows too.
        each_output: Whether it gives a value for each output, `[rows, outputs]`, and not one for the row.
    """

    function: LossFunction
    average: Average = "probability"
    across_rows: bool = False
    each_output: bool = False


LOSSES: dict[str, Loss] = {
    "kl": Loss(kl),
    "reverse_kl": Loss(reverse_kl, average="logit"),
    "jsd": Loss(jsd),
    "mse": Loss(mse, average="logit"),
    "huber": Loss(huber, average="logit"),
    "dkd": Loss(dkd),
    "dist": Loss(dist, across_rows=True),
}
