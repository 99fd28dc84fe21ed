"""Measures what a Distiller costs a training step, against the same step written by hand.

Usage: python benchmarks/overhead.py [--pairs 200] [--out benchmarks/results]

ResNet-20 on images of 32x32x3, batch 128, bf16 autocast, channels_last, SGD with momentum, a ResNet-20 as the teacher.
Everything runs in one process on the same tensors, the same student and the same teacher; each ratio is of pairs of
steps, interleaved in ABBA order. Run it on a quiet machine: 3 to 4 minutes on 2 cores. torchdistill is measured too
where it is installed (benchmarks/README.md says how).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torchdistill_box
from headstart import Distiller
from headstart.tasks.images.resnet import ResNet
from results_file import RESULTS, Figure, command_line, new_result, write_result
from step_times import Step, median_figure, paired_ratios

TEMPERATURE = 4.0
WEIGHT = 0.9
# At a learning rate of 0 the weights stay, and with them every step's work and loss; SGD computes its update even so.
SGD: dict[str, Any] = {"lr": 0.0, "momentum": 0.9, "weight_decay": 5e-4}
TOTAL_STEPS = 1_000_000  # more than are ever made, so that no window opens or closes meanwhile
GOALS = {"step_ratio": 1.02, "off_window_ratio": 1.01}


class Autocast(nn.Module):
    """Runs a module in bf16 and gives its logits in fp32, as Accelerate's prepared models do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Logits, `[rows, classes]` of float32."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
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
    torch.manual_seed(0)
    student, teacher = (Autocast(ResNet(depth, classes=10)).to(device) for _ in range(2))
    for network in (student, teacher):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Work(
        images=torch.randn(batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last),
        labels=torch.randint(10, (batch_size,), device=device),
        student=student.train(),
        teacher=teacher.eval().requires_grad_(False),
        optimizer=torch.optim.SGD(student.parameters(), **SGD),
    )


def bare(work: Work) -> Step:
    """A step of a loop that knows nothing of distillation."""

    def step() -> Tensor:
        return work.update(F.cross_entropy(work.student(work.images), work.labels))

    return step


def by_hand(work: Work) -> Step:
    """A distilling step without any library."""

    def step() -> Tensor:
        logits = work.student(work.images)
        with torch.no_grad():
            targets = work.teacher(work.images)
        task = F.cross_entropy(logits, work.labels)
        log_q, p = F.log_softmax(logits / TEMPERATURE, dim=-1), F.softmax(targets / TEMPERATURE, dim=-1)
        distill = TEMPERATURE**2 * F.kl_div(log_q, p, reduction="batchmean")
        return work.update((1.0 - WEIGHT) * task + WEIGHT * distill)

    return step


def with_distiller(work: Work, distiller: Distiller) -> Step:
    """A step of a loop with a Distiller in it."""

    def step() -> Tensor:
        logits = work.student(work.images)
        loss = distiller(F.cross_entropy(logits, work.labels), logits, work.images)
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


def comparisons(work: Work) -> dict[str, tuple[Step, Step]]:
    """By figure: the step measured, and the one it is compared with.

    Raises:
        ArithmeticError: Two steps meant to do the same work give different losses.
    """
    plain, manual = bare(work), by_hand(work)
    distilling = Distiller(work.teacher, total_steps=TOTAL_STEPS, stop=1.0, temperature=TEMPERATURE, weight=WEIGHT)
    closed = Distiller(work.teacher, total_steps=TOTAL_STEPS, stop=0.4, temperature=TEMPERATURE, weight=WEIGHT)
    closed.current_step = TOTAL_STEPS // 2
    same_work = {
        "step_ratio": (with_distiller(work, distilling), manual),
        "off_window_ratio": (with_distiller(work, closed), plain),
    }
    if torchdistill_box.is_installed():
        same_work["torchdistill_step_ratio"] = (with_torchdistill(work), manual)
    for name, (step, reference) in same_work.items():
        check_same_loss(name, step, reference)
    return {**same_work, "teacher_share": (teacher_alone(work), plain)}


def check_same_loss(name: str, step: Step, reference: Step) -> None:
    """Refuse to compare steps that do different work."""
    loss, expected = float(step()), float(reference())
    if not math.isclose(loss, expected, rel_tol=1e-5):
        raise ArithmeticError(f"{name}: the steps do different work, their losses are {loss} and {expected}")


def table_line(name: str, figure: Figure, goals: Mapping[str, float] = GOALS) -> str:
    """A figure as a line of the table; a goal is met when the interval's upper end meets it."""
    line = f"{name:24s} {figure.value:7.4f}   {figure.low:7.4f} to {figure.high:7.4f}   {figure.n:5d}"
    if name not in goals or figure.high is None:
        return line
    return f"{line}   {goals[name]:.2f}: {'met' if figure.high <= goals[name] else 'missed'}"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--depth", type=int, default=20, help="layers of the ResNets; other than 20 only for a trial")
    parser.add_argument("--batch-size", type=int, default=128, help="other than 128 only for a trial")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for overhead.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    work = make_work(options.depth, options.batch_size, options.device)
    steps = comparisons(work)
    if "torchdistill_step_ratio" not in steps:
        print("torchdistill is not installed, so torchdistill_step_ratio is left out; see benchmarks/README.md")
    print(f"{'ratio of step times':24s}  median   95 % interval         pairs   goal")
    figures = {}
    for name, (step, reference) in steps.items():
        figures[name] = median_figure(paired_ratios(step, reference, pairs=options.pairs, device=options.device))
        print(table_line(name, figures[name]), flush=True)
    result = new_result(
        "overhead",
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        seconds=time.perf_counter() - begin,
        packages=["torchdistill", "torchvision"],
    )
    print(f"{write_result(result, options.out)}, {result.seconds:.0f} s on {result.device}")


if __name__ == "__main__":
    main(sys.argv[1:])
