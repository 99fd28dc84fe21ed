"""Part of a batch: its first samples, where fewer than all are distilled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headstart.distill.inputs import each_tensor, first_tensor
from headstart.distill.targets.source import Keys
from headstart.errors import HeadstartError


@dataclass(frozen=True)
class Part:
    """The first samples of a batch.

    Attributes:
        first: How many.
        samples: Of the whole batch.
        crops: Whether the inputs are several tensors in a list, so that nothing tells how their rows follow each other.

    Example:
        >>> import torch
        >>> Part(first=1, samples=2).of_rows(torch.tensor([[1, 2], [3, 4]]))
        tensor([[1, 2]])
    """

    first: int
    samples: int
    crops: bool = False

    def of_inputs(self, inputs: Any) -> Any:
        """The inputs of these samples: of each tensor that lists something sample after sample, their share.

        Other tensors (a number of rows that the samples do not divide, a scalar) stay whole.
        """
        return each_tensor(lambda tensor: self._share(tensor) if self._divides(tensor) else tensor, inputs)

    def of_rows(self, rows: Tensor) -> Tensor:
        """The rows of these samples: of their logits, or labels.

        Raises:
            HeadstartError: Samples do not have the same number of rows each.
        """
        if not self._divides(rows):
            raise HeadstartError(
                f"fraction: {len(rows)} rows of logits do not divide among {self.samples} samples, so that nobody "
                "knows which rows are of the first ones; give each sample the same number of rows, or set fraction=1"
            )
        if self.crops and len(rows) != self.samples:
            raise HeadstartError(
                f"fraction: {len(rows)} rows of logits for {self.samples} samples in a list of several tensors (crops, "
                "views), so that nobody knows which rows are of the first samples; set fraction=1"
            )
        return self._share(rows)

    def of_keys(self, keys: Keys) -> Keys:
        """The keys of these samples."""
        partners = None if keys.partners is None else keys.partners[: self.first]
        return Keys(keys.samples[: self.first], keys.epoch, partners)

    def _divides(self, tensor: Tensor) -> bool:
        return tensor.dim() > 0 and len(tensor) % self.samples == 0

    def _share(self, tensor: Tensor) -> Tensor:
        return tensor[: len(tensor) // self.samples * self.first]


def first_part(fraction: float, inputs: Any, keys: Keys | None = None) -> Part | None:
    """The part of a batch that is distilled: the first samples, rounded up; None for all.

    Args:
        fraction: Of the samples, in (0, 1].
        inputs: What the student was given.
        keys: Which samples these are; their number is the batch's. Without, the first tensor of the inputs tells it.

    Raises:
        HeadstartError: Neither tells the number of samples.

    Example:
        >>> import torch
        >>> first_part(0.5, torch.zeros(7, 3))
        Part(first=4, samples=7, crops=False)
    """
    if fraction == 1.0:
        return None
    listed = keys.samples if keys is not None else first_tensor(inputs)
    if listed is None or not listed.dim():
        raise HeadstartError("fraction: the inputs do not tell how many samples there are; give keys=, or fraction=1")
    if not len(listed):
        return None  # of nothing, all
    crops = isinstance(inputs, list) and len(inputs) > 1
    return Part(math.ceil(fraction * len(listed) - 1e-9), len(listed), crops)
