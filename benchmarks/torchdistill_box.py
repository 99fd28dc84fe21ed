"""The same distilling step done by torchdistill, for comparison (its `DistillationBox` with its `KDLoss`)."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def is_installed() -> bool:
    """Whether torchdistill and the torchvision that it needs are there."""
    return all(importlib.util.find_spec(name) for name in ("torchdistill", "torchvision"))


def distilling_step(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    weight: float,
    sgd: dict[str, Any],
) -> Callable[[], Tensor]:
    """A training step as torchdistill's own example for image classification makes it.

    Args:
        student: Trained; maps images to logits `[rows, classes]`.
        teacher: In eval mode already, which is left to its user.
        images: The batch, `[rows, channels, height, width]`.
        labels: `[rows]` of int64.
        temperature: T of the loss.
        weight: Of the distillation loss; the task loss has 1 - weight.
        sgd: Arguments of `torch.optim.SGD`.

    Returns:
        A function that makes the step and returns its loss.
    """
    import_torchvision()
    box = importlib.import_module("torchdistill.core.distillation").DistillationBox(
        teacher,
        student,
        dataset_dict={},
        train_config=_train_config(temperature, weight, sgd),
        device=images.device,
        device_ids=None,
        distributed=False,
        lr_factor=1,
    )
    box.pre_epoch_process(epoch=0)

    def step() -> Tensor:
        box.pre_forward_process()
        loss: Tensor = box.forward_process(images, labels)
        box.post_forward_process(loss)
        return loss.detach()

    return step


def _train_config(temperature: float, weight: float, sgd: dict[str, Any]) -> dict[str, Any]:
    logits = {
        "student_module_path": ".",
        "student_module_io": "output",
        "teacher_module_path": ".",
        "teacher_module_io": "output",
    }
    loss = {"key": "KDLoss", "kwargs": {**logits, "temperature": temperature, "alpha": 1.0 - weight}}
    return {
        "num_epochs": 1,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": dict(sgd)},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
    }


def import_torchvision() -> None:
    """Import it also where its compiled part does not fit this torch: none of its operators is needed here."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
