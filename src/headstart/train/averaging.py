"""The average of a student's weights over training, which is judged and kept in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def average_of(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """What keeps an exponential moving average of a model's weights and running statistics.

    The average after the first update is the model itself; each later one is `decay` times itself plus `1 - decay`
    times the model. Whole numbers (counts, the positions that BERT looks up) have no average and are the model's.

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
    return AveragedModel(model, multi_avg_fn=_update_of(decay), use_buffers=True)


def _update_of(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """What brings tensors of one dtype up to date; torch's own would round whole numbers down, step by step."""
    moving = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            moving(averages, values, count)
            return
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)

    return update
