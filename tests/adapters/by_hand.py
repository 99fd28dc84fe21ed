"""One step of a distilling Trainer, and its gradient without any library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer

from headstart.adapters.trainer import DistillTrainer
from tests.adapters.loops import trainer_arguments
from tests.adapters.tiny_models import Rows

WEIGHT, TEMPERATURE = 0.7, 2.0
CAUSAL = ("gpt2", "llama")
OPEN = {"stop": 1.0, "weight": WEIGHT, "temperature": TEMPERATURE}


def run(
    student: nn.Module,
    data: Rows,
    folder: Path,
    *,
    trainer: type[Trainer] = DistillTrainer,
    resume: Path | None = None,
    **given: Any,
) -> Any:
    """Train by plain SGD: one step moves the weights by minus their gradient, unless told otherwise."""
    names = ("teachers", "distill", "callbacks", "compute_loss_func", "data_collator")
    own = {name: given.pop(name) for name in names if name in given}
    settings = {"max_steps": 1, "gradient_accumulation_steps": 1, "per_device_train_batch_size": len(data), **given}
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=1.0)
    made = trainer(
        student,
        trainer_arguments(folder, **settings),
        train_dataset=data,
        eval_dataset=data,
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
        **own,
    )
    made.train(resume_from_checkpoint=str(resume) if resume else None)
    return made


def stacked(data: Rows) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in data]) for name in data[0]}


def gradient_by_hand(student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor], *, causal: bool) -> Any:
    """The gradient of the loss as one would write it down, of the rows that have a label."""
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits, targets = student(**inputs).logits, teacher(**inputs).logits.detach()
    if causal:
        logits, targets, labels = logits[:, :-1], targets[:, :-1], labels[:, 1:]
    logits, targets, labels = (part[labels != -100] for part in (logits, targets, labels))
    distill = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, -1), F.softmax(targets / TEMPERATURE, -1), reduction="batchmean"
    )
    loss = (1 - WEIGHT) * F.cross_entropy(logits, labels) + WEIGHT * TEMPERATURE**2 * distill
    return torch.autograd.grad(loss, [p for p in student.parameters() if p.requires_grad])


def moved(before: nn.Module, after: nn.Module) -> tuple[Tensor, ...]:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return tuple((old - new).detach() for old, new in pairs if new.requires_grad)
