"""Logits that are not computed yet: hidden states, and the linear head that makes logits of them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor
from torch.nn import functional as F


class Projection(NamedTuple):
    """Logits to be: `hidden @ weight.T + bias`.

    A model that gives one in the place of its logits lets the loss make them a few rows at a time, so that they never
    exist in full: `Distiller.loss`, `fused_linear_loss`.

    Attributes:
        hidden: `[rows, features]`.
        weight: `[classes, features]`.
        bias: `[classes]`, where there is one.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def logits(self, index: slice | Tensor) -> Tensor:
        """Those of some rows."""
        return F.linear(self.hidden[index], self.weight, self.bias)

    def outline(self) -> Tensor:
        """A tensor of the logits' shape, `[rows, classes]`, without their memory; what it holds means nothing.

        It has a gradient where the logits would have one.
        """
        one = self.hidden.detach().new_zeros(())
        return one.expand(len(self.hidden), len(self.weight)).requires_grad_(
            self.hidden.requires_grad or self.weight.requires_grad
        )


Logits: TypeAlias = Tensor | Projection


def as_logits(given: Logits) -> Tensor:
    """Logits in full, `[rows, classes]`; those that are there already are given back.

    Example:
        >>> import torch
        >>> as_logits(Projection(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])))
        tensor([[3., 7.]])
    """
    return F.linear(*given) if isinstance(given, Projection) else given
