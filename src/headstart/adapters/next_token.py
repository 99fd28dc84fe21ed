"""Labels of causal language models, for loops that call the Distiller themselves."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from headstart.distill.objective import IGNORED


def next_tokens(labels: Tensor) -> Tensor:
    """The labels of a causal language model's predictions: the next position's.

    The logits stay as they are, one row a position, so that they fit the teachers'; the last position predicts nothing.
    Where sequences are packed, the label of each one's first token has to be -100, as `DataCollatorWithFlattening` of
    transformers makes it.

    Args:
        labels: `[batch, tokens]` of int64, as models of transformers take them.

    Returns:
        The same shape, for a Distiller beside the logits.

    Example:
        >>> import torch
        >>> next_tokens(torch.tensor([[-100, 7, 8, 9]]))
        tensor([[   7,    8,    9, -100]])
    """
    return F.pad(labels[..., 1:], (0, 1), value=IGNORED)
