"""The average of a student's weights over training, which is judged and kept in their place."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def average_of(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """What keeps an exponential moving average of a model's weights and running statistics.

    The average after the first update is the model itself; each later one is `decay` times itself plus `1 - decay`
    times the model.

    Args:
        model: On its device.
        decay: In [0, 1); None: nothing is kept.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1)
        >>> average = average_of(model, 0.75)
        >>> for weight in (0.0, 4.0):
        ...     _ = nn.init.constant_(model.weight, weight)
        ...     average.update_parameters(model)
        >>> average.module.weight.item()
        1.0
    """
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
