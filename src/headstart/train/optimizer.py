"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from headstart.recipe.cycles import cycle_at
from headstart.recipe.train_section import Train

_ONE_CYCLE_START = 1 / 25  # of the peak; as in torch.optim.lr_scheduler.OneCycleLR


def build_optimizer(model: nn.Module, config: Train) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and the parameters of norms (one dimension or none) do not decay."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def lr_scale(step: int, total_steps: int, config: Train) -> float:
    """The learning rate of a step as a fraction of the peak.

    Args:
        step: Counted from 0.
        total_steps: Of the run: each budget has its own complete schedule.
        config: `schedule`, `warmup`, `decay` and `final_lr`; with `first_cycle` each cycle has a complete schedule.

    Example:
        >>> [lr_scale(step, 4, Train(epochs=1, schedule="linear", warmup=0)) for step in range(4)]
        [1.0, 0.75, 0.5, 0.25]
        >>> [lr_scale(step, 6, Train(epochs=3, first_cycle=1, schedule="linear", warmup=0)) for step in range(6)]
        [1.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    begin, total_steps = cycle_at(step, total_steps, config.cycles)
    step -= begin
    warmup = config.warmup * total_steps
    if step < warmup:
        rise = step / warmup
        if config.schedule == "one-cycle":
            return _ONE_CYCLE_START + (1 - _ONE_CYCLE_START) * (1 - math.cos(math.pi * rise)) / 2
        return (step + 1) / (warmup + 1)
    if config.schedule == "wsd":
        decay = config.decay * total_steps
        left = total_steps - step
        return 1.0 if left >= decay else config.final_lr + (1 - config.final_lr) * left / decay
    fall = (step - warmup) / max(total_steps - warmup, 1)
    if config.schedule == "linear":
        return 1 - (1 - config.final_lr) * fall
    final = 0.0 if config.schedule == "one-cycle" else config.final_lr
    return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
