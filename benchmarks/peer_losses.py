"""The losses of other libraries, called as those libraries call them; each is imported when it is asked for.

All take the student's and the teacher's logits, the labels and the setting's values (T is the temperature).
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchdistill_box import import_torchvision

Values = Mapping[str, float]


class Given(nn.Module):
    """A model that gives these logits, with what timm asks of a model."""

    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # noqa: RUF012
    num_classes, in_chans = 1, 3

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *_: Any) -> Tensor:
        """The logits."""
        return self.logits


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, the mean over all rows."""
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def composer(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """That of pull request 1819, written down again, as Composer does not install beside today's torch.

    `kl_div` is given the teacher's logarithms as input and the student's probabilities as target.
    """
    log_p, q = F.log_softmax(teacher / values["T"], -1), F.softmax(logits / values["T"], -1)
    distill = values["T"] ** 2 * F.kl_div(log_p, q, reduction="batchmean")
    return (1 - values["w"]) * task_loss(logits, labels) + values["w"] * distill


def torchdistill(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """`KDLoss`."""
    import_torchvision()
    made = importlib.import_module("torchdistill.losses.mid_level").KDLoss(
        "m", "output", "m", "output", temperature=values["T"], alpha=values["alpha"], beta=values.get("beta")
    )
    loss: Tensor = made({"m": {"output": logits}}, {"m": {"output": teacher}}, labels)
    return loss


def textbrewer(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values, *, kind: str = "ce") -> Tensor:
    """`BasicDistiller`."""
    library = importlib.import_module("textbrewer")
    config = library.DistillationConfig(
        temperature=values["T"], kd_loss_type=kind, kd_loss_weight=values["k"], hard_label_weight=values["h"]
    )
    with tempfile.TemporaryDirectory() as folder:
        training = library.TrainingConfig(output_dir=folder, device="cpu")
        distiller = library.BasicDistiller(training, config, nn.Identity(), nn.Identity(), None, None)
    student = {"logits": [logits], "losses": [task_loss(logits, labels)]}
    loss: Tensor = distiller.compute_loss(student, {"logits": [teacher]})[0]
    return loss


def textbrewer_mse(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """`BasicDistiller` with another `kd_loss_type`."""
    return textbrewer(logits, teacher, labels, values, kind="mse")


def trl(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """What `DistillationTrainer` calls, with heads that leave the logits as they are."""
    function = importlib.import_module("trl.trainer.distillation_trainer")._chunked_divergence_loss
    head = torch.eye(logits.shape[-1], dtype=logits.dtype)
    loss: Tensor = function(
        logits, teacher, head, head, torch.ones_like(labels), values["beta"], temperature=values["T"]
    )[0]
    return loss


def trl_gkd(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """What `GKDTrainer` calls."""
    trainer = importlib.import_module("trl.experimental.gkd.gkd_trainer").GKDTrainer
    loss: Tensor = trainer.generalized_jsd_loss(logits, teacher, labels=labels, beta=0.5)
    return loss


def timm(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """`LogitDistillationTask`."""
    import_torchvision()
    task = importlib.import_module("timm.task").LogitDistillationTask(
        Given(logits),
        Given(teacher),
        criterion=nn.CrossEntropyLoss(),
        temperature=values["T"],
        task_loss_weight=values.get("a"),
        distill_loss_weight=values.get("b"),
        device=torch.device("cpu"),
        verbose=False,
    )
    loss: Tensor = task(torch.zeros(1, 3, 1, 1), labels)["loss"]
    return loss


def modelopt(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values, *, reduction: str = "mean") -> Tensor:
    """`LogitsDistillationLoss`, balanced by `StaticLossBalancer`."""
    library = importlib.import_module("modelopt.torch.distill")
    distill = library.LogitsDistillationLoss(temperature=values["T"], reduction=reduction)(logits, teacher)
    losses = {"student_loss": task_loss(logits, labels), "LogitsDistillationLoss_0": distill}
    loss: Tensor = library.StaticLossBalancer(kd_loss_weight=values["w"])(losses)
    return loss


def modelopt_batchmean(logits: Tensor, teacher: Tensor, labels: Tensor, values: Values) -> Tensor:
    """The same with another reduction."""
    return modelopt(logits, teacher, labels, values, reduction="batchmean")
