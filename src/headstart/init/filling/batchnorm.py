"""Running statistics of BatchNorm, taken anew once the channels have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.init.filling.observe import evaluating


def retake(model: nn.Module, batches: Iterable[Any], forward: Callable[[nn.Module, Any], Any]) -> bool:
    """Average the statistics of some batches into every BatchNorm that keeps any; the rest of the model stays in eval.

    Args:
        model: The student; its modes are afterwards what they were, and if a batch cannot be given, so are its
            statistics.
        batches: Batches as `forward` takes them.
        forward: How a batch is given.

    Returns:
        Whether there was a BatchNorm.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return False
    momenta = [norm.momentum for norm in norms]
    statistics = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        with evaluating(model), torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # an average over all batches alike
                norm.train()
            for batch in batches:
                forward(model, batch)
    except BaseException:
        for buffer, before in statistics:
            buffer.copy_(before)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return True
