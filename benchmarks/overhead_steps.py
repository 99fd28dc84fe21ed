"""What the overhead benchmark compares: steps by hand, with a Distiller, with torchdistill; and short runs of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torchdistill_box
from headstart import Distiller
from headstart.precision import chosen_for
from headstart.tasks.images.resnet import ResNet
from step_times import Step

TEMPERATURE = 4.0
WEIGHT = 0.9
# At a learning rate of 0 the weights stay, and with them every step's work and loss; SGD computes its update even so.
SGD: dict[str, Any] = {"lr": 0.0, "momentum": 0.9, "weight_decay": 5e-4}
TOTAL_STEPS = 1_000_000  # more than are ever made, so that no window opens or closes meanwhile
RUN_STEPS = 20


def in_bf16(device: torch.device) -> bool:
    """Whether the steps are in bf16: where the device computes it in hardware, as recipes do; else in fp32."""
    return chosen_for("auto", device) == "bf16"


class Autocast(nn.Module):
    """Runs a module in the precision of the device and gives its logits in fp32, as Accelerate's prepared models do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Logits, `[rows, classes]` of float32."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=in_bf16(images.device)):
            logits: Tensor = self.module(images)
        return logits.float()


@dataclass(frozen=True)
class Work:
    """What all steps share: one batch, one student with its optimiser, one teacher."""

    images: Tensor
    labels: Tensor
    student: nn.Module
    teacher: nn.Module
    optimizer: torch.optim.Optimizer

    def update(self, loss: Tensor) -> Tensor:
        """Backward pass and optimiser step; returns the loss."""
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def make_work(depth: int, batch_size: int, device: torch.device) -> Work:
    """Random images, and two networks of one kind with different random weights."""

    def batch() -> tuple[Tensor, Tensor]:
        return torch.randn(batch_size, 3, 32, 32, device=device), torch.randint(10, (batch_size,), device=device)

    return work_of(lambda: ResNet(depth, classes=10), batch, device)


def work_of(make: Callable[[], nn.Module], batch: Callable[[], tuple[Tensor, Tensor]], device: torch.device) -> Work:
    """The work of any two networks of one kind.

    Args:
        make: Gives a network with random weights.
        batch: Gives inputs and labels, on the device.
        device: Where the networks are put.
    """
    torch.manual_seed(0)
    student, teacher = (Autocast(make()).to(device) for _ in range(2))
    for network in (student, teacher):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, labels = batch()
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return Work(
        images=inputs,
        labels=labels,
        student=student.train(),
        teacher=teacher.eval().requires_grad_(False),
        optimizer=torch.optim.SGD(student.parameters(), **SGD),
    )


def bare(work: Work) -> Step:
    """A step of a loop that knows nothing of distillation."""

    def step() -> Tensor:
        return work.update(F.cross_entropy(work.student(work.images), work.labels))

    return step


def by_hand(work: Work, *, early: bool = False) -> Step:
    """A distilling step without any library, which asks the teacher before the student's forward or after it."""
    ask = teacher_alone(work)

    def step() -> Tensor:
        targets = ask() if early else None
        logits = work.student(work.images)
        targets = ask() if targets is None else targets
        task = F.cross_entropy(logits, work.labels)
        log_q, p = F.log_softmax(logits / TEMPERATURE, dim=-1), F.softmax(targets / TEMPERATURE, dim=-1)
        distill = TEMPERATURE**2 * F.kl_div(log_q, p, reduction="batchmean")
        return work.update((1.0 - WEIGHT) * task + WEIGHT * distill)

    return step


def with_distiller(work: Work, distiller: Distiller, *, early: bool = False, labelled: bool = False) -> Step:
    """A step of a loop with a Distiller in it, which is given the labels where it has to have them."""
    labels = work.labels if labelled else None

    def step() -> Tensor:
        if early:
            distiller.prefetch(work.images)
        logits = work.student(work.images)
        loss = distiller(F.cross_entropy(logits, work.labels), logits, work.images, labels=labels)
        loss = work.update(loss)
        distiller.step()
        return loss

    return step


def with_torchdistill(work: Work) -> Step:
    """A distilling step of torchdistill's box, with an SGD of its own on the same weights."""
    return torchdistill_box.distilling_step(
        work.student, work.teacher, work.images, work.labels, temperature=TEMPERATURE, weight=WEIGHT, sgd=SGD
    )


def teacher_alone(work: Work) -> Step:
    """The teacher's forward pass."""

    def step() -> Tensor:
        with torch.no_grad():
            logits: Tensor = work.teacher(work.images)
        return logits

    return step


def one_after_the_other(first: Step, second: Step) -> Step:
    """Both as one step; returns what the second gives."""

    def step() -> Tensor:
        first()
        return second()

    return step


def run_of(step: Step) -> Step:
    """A short run of nothing but such steps."""

    def run() -> Tensor:
        for _ in range(RUN_STEPS - 1):
            step()
        return step()

    return run


def default_run(work: Work) -> Step:
    """The same short run with a Distiller, made anew for each, that distils 3 of its 20 steps."""

    def run() -> Tensor:
        distiller = Distiller(
            work.teacher,
            total_steps=RUN_STEPS,
            stop=0.3,
            every=2,
            temperature=TEMPERATURE,
            weight=WEIGHT,
        )
        return run_of(with_distiller(work, distiller, early=True))()

    return run
