"""What all losses share: the dtype they are computed in, and tempered probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def widen(logits: Tensor) -> Tensor:
    """Logits in the dtype that losses are computed in: at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Logarithms of the tempered probabilities of classes, in at least float32."""
    return F.log_softmax(widen(logits) / temperature, dim=-1)
