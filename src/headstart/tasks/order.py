"""The order in which training samples are seen."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class EpochOrder:
    """Samples shuffled by epoch: which ones a step sees is a pure function of (seed, step).

    Args:
        samples: Number of training samples.
        seed: The run's seed.

    Example:
        >>> order = EpochOrder(6, seed=0)
        >>> first, epoch = order.part(0, 4)
        >>> len(first), epoch, order.part(1, 4)[1]
        (4, 0, 1)
    """

    def __init__(self, samples: int, *, seed: int) -> None:
        self.samples, self.seed = samples, seed
        self._order: tuple[int, Tensor] | None = None

    def part(self, step: int, size: int, part: int = 0, parts: int = 1) -> tuple[Tensor, int]:
        """One of the equal parts of a step's batch; an epoch's last batch that would not be full is left out.

        Args:
            step: The optimiser step, counted from 0.
            size: Samples of the whole step.
            part: Which part of them (a micro-batch of a process).
            parts: How many equal parts there are.

        Returns:
            Indices of samples, `[size / parts]` of int64 on the CPU, and the epoch, counted from 0.
        """
        epoch, position = divmod(step, self.samples // size)
        share = size // parts
        begin = position * size + part * share
        return self._shuffled(epoch)[begin : begin + share], epoch

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(self.samples, generator=generator))
        return self._order[1]


def held_out_batches(samples: int, size: int, *, part: int = 0, parts: int = 1) -> Iterator[tuple[Tensor, int]]:
    """Which held-out samples to evaluate in turn, all of them or one of several parts.

    Each part has as many batches as any other, and as large ones; where samples are too few for that, the last one
    comes again and does not count.

    Args:
        samples: Number of held-out samples.
        size: Most samples of a batch.
        part: Which part (a process).
        parts: How many there are.

    Yields:
        Indices of samples, `[up to size]` of int64, and how many of them, from the first on, count.

    Example:
        >>> [(batch.tolist(), count) for batch, count in held_out_batches(5, 2, part=1, parts=2)]
        [([2, 3], 2), ([4], 0)]
    """
    for begin in range(0, samples, size * parts):
        share = -(-min(size * parts, samples - begin) // parts)
        first = begin + part * share
        yield torch.arange(first, first + share).clamp(max=samples - 1), max(0, min(share, samples - first))
