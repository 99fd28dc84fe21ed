"""One objective, 0.1 cross-entropy + 0.9 KL at T = 4, formulated in several ways: ours, by hand, other libraries'."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

import peer_losses
from headstart.distill import Projection, build_objective, cross_entropy, fused_linear_loss, fused_loss
from headstart.distill.losses import widen
from torchdistill_box import import_torchvision

TEMPERATURE, WEIGHT = 4.0, 0.9
_OBJECTIVE = build_objective("kl", TEMPERATURE)


@dataclass(frozen=True)
class Work:
    """What the losses are given; the floating tensors are bf16, and gradients go to those that require one.

    Attributes:
        student: Logits, `[rows, classes]`.
        teacher: Logits, `[rows, classes]`.
        labels: `[rows]`.
        hidden: The student's hidden states, `[rows, features]`.
        weight: Of its head, `[classes, features]`.
        teacher_hidden: As `hidden`.
        teacher_weight: As `weight`.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor

    def first(self, rows: int) -> Work:
        """The same with fewer rows."""
        parts = {
            field.name: value if field.name.endswith("weight") else value[:rows].detach().clone()
            for field in fields(self)
            for value in [getattr(self, field.name)]
        }
        for name in ("student", "hidden"):
            parts[name].requires_grad_()
        return Work(**parts)


Formulation = Callable[[Work], Tensor]


def make_work(rows: int, classes: int, features: int, device: torch.device) -> Work:
    """Random numbers; made in bf16 at once, so that nothing larger is ever in memory."""
    torch.manual_seed(0)

    def normal(*shape: int, deviation: float) -> Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(std=deviation)

    return Work(
        student=normal(rows, classes, deviation=2.0).requires_grad_(),
        teacher=normal(rows, classes, deviation=2.0),
        labels=torch.randint(classes, (rows,), device=device),
        hidden=normal(rows, features, deviation=1.0).requires_grad_(),
        weight=normal(classes, features, deviation=2.0 * features**-0.5).requires_grad_(),
        teacher_hidden=normal(rows, features, deviation=1.0),
        teacher_weight=normal(classes, features, deviation=2.0 * features**-0.5),
    )


def fused(work: Work) -> Tensor:
    """Ours."""
    return fused_loss(work.student, work.labels, [work.teacher], objective=_OBJECTIVE, weight=WEIGHT).loss


def eager(work: Work) -> Tensor:
    """The usual one, in float32."""
    return _usual(work.student, work.teacher, work.labels)


def task_fused(work: Work) -> Tensor:
    """Ours, of the task loss alone."""
    return cross_entropy(work.student, work.labels)


def task_eager(work: Work) -> Tensor:
    """Cross-entropy in float32."""
    return F.cross_entropy(work.student.float(), work.labels)


def torchdistill(work: Work) -> Tensor:
    """Torchdistill's `KDLoss`, in float32."""
    values = {"T": TEMPERATURE, "alpha": 1.0 - WEIGHT}
    return peer_losses.torchdistill(work.student.float(), work.teacher.float(), work.labels, values)


def trl(work: Work) -> Tensor:
    """TRL's generalised JSD with its defaults, in float32. Another objective: JSD at T = 1, and no task loss."""
    _before_trl()
    return peer_losses.trl_gkd(work.student.float(), work.teacher.float(), work.labels, {})


def linear_fused(work: Work) -> Tensor:
    """Ours, from hidden states."""
    student, teacher = Projection(work.hidden, work.weight), Projection(work.teacher_hidden, work.teacher_weight)
    return fused_linear_loss(student, work.labels, [teacher], objective=_OBJECTIVE, weight=WEIGHT).loss


def linear_eager(work: Work) -> Tensor:
    """The usual one after the matrix products, whose results are bf16."""
    return _usual(work.hidden @ work.weight.T, work.teacher_hidden @ work.teacher_weight.T, work.labels)


def linear_liger(work: Work) -> Tensor:
    """Liger's fused linear JSD, as forward KL. It computes the distillation loss in bf16.

    Not compiled, which it is by default: on the CPU it would be compiled again at every call.
    """
    loss = importlib.import_module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=1.0 - WEIGHT,
        weight_soft_loss=WEIGHT * TEMPERATURE**2,
        beta=0.0,
        temperature=TEMPERATURE,
        compiled=work.hidden.device.type != "cpu",
    )
    result: Tensor = loss(work.hidden, work.weight, work.teacher_hidden, work.teacher_weight, work.labels)
    return result


def linear_trl(work: Work) -> Tensor:
    """What TRL's `DistillationTrainer` calls, as forward KL. Another objective: no task loss."""
    _before_trl()
    function = importlib.import_module("trl.trainer.distillation_trainer")._chunked_divergence_loss
    hidden, mask = (work.hidden[None], work.teacher_hidden[None]), torch.ones_like(work.labels)[None]
    loss: Tensor = function(*hidden, work.weight, work.teacher_weight, mask, 0.0, temperature=TEMPERATURE)[0]
    return loss


def make_step(formulation: Formulation, work: Work) -> Callable[[], Tensor]:
    """A function that computes loss and gradients, and returns the loss."""
    inputs = [work.hidden, work.weight] if formulation.__name__.startswith("linear") else [work.student]

    def step() -> Tensor:
        loss = formulation(work)
        torch.autograd.grad(loss, inputs)
        return loss.detach()

    return step


def installed(formulation: Formulation) -> bool:
    """Whether the library is there that a formulation needs, if it needs one."""
    packages = {"torchdistill": "torchdistill", "trl": "trl", "linear_trl": "trl", "linear_liger": "liger_kernel"}
    package = packages.get(formulation.__name__)
    return package is None or importlib.util.find_spec(package) is not None


def _before_trl() -> None:
    """TRL needs no torchvision, but imports one that is there, and stumbles over one made for another torch."""
    with suppress(ModuleNotFoundError):
        import_torchvision()


def _usual(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    student, teacher = widen(student), widen(teacher)
    log_q, p = F.log_softmax(student / TEMPERATURE, dim=-1), F.softmax(teacher / TEMPERATURE, dim=-1)
    distill = TEMPERATURE**2 * F.kl_div(log_q, p, reduction="batchmean")
    return (1.0 - WEIGHT) * F.cross_entropy(student, labels) + WEIGHT * distill
