"""Batches of token sets: shuffled, of like lengths, padded to the longest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.tasks.glue.tokens import TokenSet

_POOL = 8  # batches; see training_batches


def training_batches(lengths: NDArray[np.int64], size: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of one training batch after the other, epoch after epoch without end.

    Each epoch takes all samples in a new random order; its last batch may be smaller. Of any eight batches of this
    order, the samples are sorted by length before they are cut into batches, and the eight batches shuffled. So eight
    steps, about as many as AdamW's running mean of gradients covers, see exactly the samples that they would have seen
    without sorting. Without it, most of a batch is padding.

    Args:
        lengths: Tokens of each sample, `[samples]`.
        size: Samples of a batch.
        seed: Together with the epoch it determines the order.

    Example:
        >>> batches = training_batches(np.array([9, 1, 5]), 2, seed=0)
        >>> [len(next(batches)) for _ in range(4)].count(2)
        2
    """
    for epoch in count():
        generator = np.random.default_rng((seed, epoch))
        order = generator.permutation(len(lengths))
        for begin in range(0, len(order), _POOL * size):
            pool = order[begin : begin + _POOL * size]
            batches = _cut(pool[np.argsort(lengths[pool], kind="stable")], size)
            yield from (batches[index] for index in generator.permutation(len(batches)))


def evaluation_batches(lengths: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """All rows, the shortest first: what they are batched with makes no difference there."""
    return _cut(np.argsort(lengths, kind="stable"), size)


def padded(tokens: TokenSet, rows: NDArray[np.int64], *, padding: int, device: torch.device) -> dict[str, Tensor]:
    """The inputs of a batch, as transformers' encoders take them.

    Args:
        tokens: Where the rows are from.
        rows: `[batch]`.
        padding: The padding token.
        device: Where the tensors go.

    Returns:
        `input_ids` and `attention_mask`, and `token_type_ids` where the tokens have types; int64
        `[batch, longest row]`.
    """
    lengths = tokens.lengths[rows][:, None]
    column = np.arange(lengths.max())
    real = column < lengths
    # Padding may point past the last token.
    places = np.minimum(tokens.starts[rows][:, None] + column, len(tokens.ids) - 1)
    arrays = {"input_ids": np.where(real, tokens.ids[places], padding), "attention_mask": real}
    if tokens.types is not None:
        arrays["token_type_ids"] = np.where(real, tokens.types[places], 0)
    return {name: torch.from_numpy(array.astype(np.int64)).to(device) for name, array in arrays.items()}


def _cut(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]
