"""One fine-tuning, and what the model says afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.errors import HeadstartError
from headstart.tasks.glue.batches import evaluation_batches, padded, training_batches
from headstart.tasks.glue.protocol import BETAS, EPS, WARMUP, GlueTask
from headstart.tasks.glue.tokens import TokenSet

Precision = Literal["fp32", "bf16"]

_EVALUATED_AT_ONCE = 64
_TOLD_EVERY = 20  # steps; reading the loss makes a GPU wait


def count_steps(task: GlueTask, samples: int, epochs: float) -> int:
    """Optimiser steps of a fine-tuning; an epoch's last batch, which may be smaller, counts as one."""
    return max(1, round(epochs * math.ceil(samples / task.batch_size)))


def finetune(
    model: nn.Module,
    train: TokenSet,
    task: GlueTask,
    *,
    steps: int,
    seed: int,
    padding: int,
    precision: Precision,
    progress: Callable[[int, int, float], None],
) -> None:
    """Fine-tune a model where it lies, by the protocol: AdamW, linear warm-up, then linearly to 0.

    Args:
        model: A sequence classifier of transformers with `task.classes` outputs; it is changed.
        train: The training split.
        task: Its settings.
        steps: How many; the schedule is complete whatever their number.
        seed: Of the order. Dropout draws from torch's default generator.
        padding: The padding token.
        precision: bf16: autocast.
        progress: Called now and then with steps done, steps in all, and the last step's loss.

    Raises:
        HeadstartError: The loss is no longer finite.
    """
    from transformers import get_linear_schedule_with_warmup

    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=task.lr,
        betas=BETAS,
        eps=EPS,
        weight_decay=task.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    schedule = get_linear_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    labels = torch.from_numpy(train.labels).to(device)
    model.train()
    batches = training_batches(train.lengths, task.batch_size, seed=seed)
    for done, rows in zip(range(1, steps + 1), batches, strict=False):
        inputs = padded(train, rows, padding=padding, device=device)
        with autocast(device, precision):
            logits = model(**inputs).logits
        loss = task_loss(logits.float(), labels[torch.from_numpy(rows).to(device)])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if done % _TOLD_EVERY == 0 or done == steps:
            value = float(loss.detach())
            _check(value, task, done)
            progress(done, steps, value)


def task_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy `[batch, classes]` against classes, or squared error `[batch, 1]` against scores; the mean."""
    if labels.is_floating_point():
        return F.mse_loss(outputs[:, 0], labels)
    return F.cross_entropy(outputs, labels)


@torch.no_grad()
def predict(model: nn.Module, tokens: TokenSet, *, padding: int, precision: Precision) -> NDArray[np.float32]:
    """A model's outputs for every sample, in evaluation mode.

    Returns:
        `[samples, classes]` of float32.
    """
    device = next(model.parameters()).device
    model.eval()
    batches = evaluation_batches(tokens.lengths, _EVALUATED_AT_ONCE)
    parts = []
    for rows in batches:
        with autocast(device, precision):
            parts.append(model(**padded(tokens, rows, padding=padding, device=device)).logits.float().cpu().numpy())
    outputs: NDArray[np.float32] = np.concatenate(parts)
    ordered = np.empty_like(outputs)
    ordered[np.concatenate(batches)] = outputs
    return ordered


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context of a forward pass."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _check(loss: float, task: GlueTask, step: int) -> None:
    if not math.isfinite(loss):
        raise HeadstartError(
            f"GLUE task {task.name}: the loss is {loss} at step {step}; the checkpoint's own weights may not be "
            "finite, else try precision fp32"
        )
