"""Mixup (Zhang et al., arXiv 1710.09412): inputs and labels are mixtures of two."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixing_share(alpha: float, *, seed: int, step: int) -> float:
    """How much of each image stays at a step: drawn from Beta(alpha, alpha), as a pure function of (seed, step).

    Example:
        >>> 0.0 <= mixing_share(0.2, seed=0, step=3) <= 1.0
        True
    """
    return float(np.random.default_rng((seed, step)).beta(alpha, alpha))


def mixed_with_neighbours(images: Tensor, share: float) -> Tensor:
    """`share` of each image and the rest of the one before it; the first is mixed with the last.

    The order of a batch is random, so that its neighbour is a random partner.

    Args:
        images: `[batch, channels, height, width]` of floats.
        share: In [0, 1].

    Example:
        >>> mixed_with_neighbours(torch.tensor([0.0, 10.0]).view(2, 1, 1, 1), 0.75).flatten().tolist()
        [2.5, 7.5]
    """
    mixed = torch.lerp(images.roll(1, 0), images, share)
    return mixed.contiguous(memory_format=torch.channels_last)
