"""Predicts what distilling costs on 8 and on 64 GPUs: arithmetic from stated inputs, of which nothing is measured here.

Usage: python benchmarks/scaling.py [--out benchmarks/results]

The inputs are below, each with its source: what others have published of an A100 of 80 GB and of training on it, and
the weight of a teacher's forward as two of our benchmarks measured it. FLOPs and parameters are counted from the
models. docs/scaling.md explains the formulas and says what the predictions are worth. It takes seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from results_file import RESULTS, Figure, command_line, finish
from scaling_models import SMOLLM_TOKENS, Counted, count_bert, count_resnet, count_smollm

GPUS = (8, 64)
POOLS = (4, 16)  # teachers of the student's size
GAINS = (1.25, 1.5, 2.0)  # how many times fewer steps distilling may need
FRACTIONS = (0.25, 0.5, 1.0)  # of the steps, distilled
RHO = 1 / 3  # of a teacher like the student, by counting: the backward pass does twice the forward's work
SALT = 0.17  # of the steps, distilled from a smaller teacher (arXiv 2410.18779)
STEPS, SEQUENCES = 10_000, 512  # of recipes/smollm-fineweb.yaml: steps, and sequences of each
UTILISATION = 0.4  # of a GPU's peak, assumed
FLOAT32, BF16 = 4, 2  # bytes
HIDDEN = 2 / 3  # of a step's computation: the backward pass, which hides the exchange of gradients


@dataclass(frozen=True)
class Machine:
    """A GPU, and its links, in one direction.

    Attributes:
        flops: Its peak, dense, in bf16, per second.
        local: Bytes per second to the other GPUs of its machine.
        remote: Bytes per second to other machines, its share of the machine's network cards.
        host: Bytes per second from the host's memory.
        together: GPUs of a machine.
    """

    flops: float
    local: float
    remote: float
    host: float
    together: int

    def link(self, gpus: int) -> float:
        """The slowest link of a ring of GPUs."""
        return self.local if gpus <= self.together else self.remote


# NVIDIA's data sheets of the A100 80GB SXM (312 TFLOP/s in bf16, NVLink 600 GB/s both ways together, PCIe 4.0 x16) and
# of the DGX A100 (8 GPUs, 8 network cards of 200 Gb/s).
A100 = Machine(flops=312e12, local=300e9, remote=25e9, host=32e9, together=8)


@dataclass(frozen=True)
class Training:
    """What is trained, and how quickly one A100 does it.

    Attributes:
        name: For the figures.
        counted: Parameters and FLOPs of the model.
        batch: Samples of a step, of all GPUs.
        states: Numbers that the optimiser keeps for each parameter.
        samples_per_second: Of one GPU, as published.
        by_eight: Of eight, where that is published too.
    """

    name: str
    counted: Counted
    batch: int
    states: int
    samples_per_second: float
    by_eight: float | None = None


def trainings() -> list[Training]:
    """The paper's two."""
    return [
        # NVIDIA's DeepLearningExamples, ResNet50 v1.5 for PyTorch, mixed precision, on one A100 80GB and on 8.
        Training("resnet50", count_resnet(), batch=2048, states=1, samples_per_second=2470, by_eight=16621),
        # The authors' public recipe: 286.72 M sequences in 11.5 hours on 8 A100 80GB.
        Training("bert", count_bert(), batch=4096, states=2, samples_per_second=286.72e6 / (11.5 * 3600) / 8),
    ]


def ring_bytes(size: float, gpus: int, passes: int = 2) -> float:
    """What each GPU of a ring sends.

    Args:
        size: Bytes of all that is exchanged.
        gpus: How many there are.
        passes: 2 for an all-reduce (DDP); 1 for an all-gather or a reduce-scatter, of which FSDP needs 3 a step.
    """
    return passes * (gpus - 1) / gpus * size


def step_seconds(compute: float, communication: float, hidden: float = HIDDEN) -> float:
    """A step whose communication goes on beside a part of its computation.

    Args:
        compute: Seconds of computation alone.
        communication: Seconds of communication alone.
        hidden: Part of the computation that hides communication.
    """
    return compute + max(0.0, communication - hidden * compute)


def speedup(gain: float, rho: float, fraction: float) -> float:
    """How many times faster than plain training distilling gets to the same quality.

    Args:
        gain: How many times fewer steps it needs.
        rho: A teacher's forward, as a part of a plain step.
        fraction: Part of the steps that are distilled.
    """
    return gain / (1 + rho * fraction)


def student_bytes(parameters: int, states: int, shards: int = 1) -> float:
    """Weights, gradients and optimiser state in float32, as each GPU holds them, without activations.

    Args:
        parameters: The student's.
        states: Numbers that the optimiser keeps for each.
        shards: Over how many GPUs they are spread (FSDP); 1: DDP, which has the gradients twice, to send them.
    """
    return FLOAT32 * parameters * (3 + states if shards == 1 else (2 + states) / shards)


def teacher_bytes(counted: Counted, teachers: int, residence: str, gpus: int) -> float:
    """Weights of teachers of the student's size in bf16, as each GPU holds them.

    Args:
        counted: A teacher.
        teachers: How many there are.
        residence: As in a recipe.
        gpus: Over how many sharded ones are spread; what is gathered at a time comes on top.
    """
    if residence == "sharded":
        return BF16 * (teachers * counted.parameters / gpus + counted.gathered)
    return BF16 * counted.parameters * (teachers if residence == "device" else min(2, teachers))


def predictions(training: Training, machine: Machine, gpus: int) -> Iterator[tuple[str, float, str | None]]:
    """By figure: value and unit."""
    counted, link = training.counted, machine.link(gpus)
    compute = training.batch / gpus / training.samples_per_second
    reduce = ring_bytes(FLOAT32 * counted.parameters, gpus) / link
    step, teacher = step_seconds(compute, reduce), counted.rho * compute
    yield "compute", 1e3 * compute, "ms"
    yield "all_reduce_bytes", ring_bytes(FLOAT32 * counted.parameters, gpus) / 1e9, "GB"
    yield "fsdp_bytes", ring_bytes(FLOAT32 * counted.parameters, gpus, passes=3) / 1e9, "GB"
    yield "all_reduce", 1e3 * reduce, "ms"
    yield "step", 1e3 * step, "ms"
    yield "efficiency", compute / step, None
    yield "efficiency_unhidden", compute / step_seconds(compute, reduce, hidden=0.0), None
    yield "teacher", 1e3 * teacher, "ms"
    yield "distilling_step", (step + teacher) / step, None
    yield "distilling_step_unhidden", 1 + teacher / step_seconds(compute, reduce, hidden=0.0), None
    yield "gather_teacher", 1e3 * ring_bytes(BF16 * counted.parameters, gpus, passes=1) / link, "ms"
    yield "copy_teacher", 1e3 * BF16 * counted.parameters / machine.host, "ms"
    yield "student_ddp", student_bytes(counted.parameters, training.states) / 1e9, "GB"
    yield "student_fsdp", student_bytes(counted.parameters, training.states, gpus) / 1e9, "GB"
    for teachers in POOLS:
        for residence in ("device", "stream", "sharded"):
            held = teacher_bytes(counted, teachers, residence, gpus)
            yield f"{teachers}_teachers_{residence}", held / 1e9, "GB"


def counts(training: Training, machine: Machine) -> Iterator[tuple[str, float, str | None]]:
    """What does not depend on the number of GPUs."""
    counted = training.counted
    yield "parameters", counted.parameters / 1e6, "million"
    yield "forward", counted.forward_flops / 1e9, "GFLOP"
    yield "forward_and_backward", counted.step_flops / 1e9, "GFLOP"
    yield "rho", counted.rho, None
    yield "samples_per_second", training.samples_per_second, "1/s"
    yield "utilisation", counted.step_flops * training.samples_per_second / machine.flops, None
    if training.by_eight is not None:
        yield "published_efficiency_8", training.by_eight / training.samples_per_second / 8, None


def smaller_teacher(machine: Machine) -> Iterator[tuple[str, float, str | None]]:
    """SmolLM2-360M taught by SmolLM2-135M, as recipes/smollm-fineweb.yaml has it: by figure, value and unit."""
    student, teacher = count_smollm("360m"), count_smollm("135m")
    rho = teacher.forward_flops / student.step_flops
    sequences, gpus = STEPS * SEQUENCES, 8
    hours = sequences * student.step_flops / (gpus * UTILISATION * machine.flops) / 3600
    yield "parameters", student.parameters / 1e6, "million"
    yield "teacher_parameters", teacher.parameters / 1e6, "million"
    yield "forward_and_backward", student.step_flops / 1e12, "TFLOP"
    yield "teacher_forward", teacher.forward_flops / 1e12, "TFLOP"
    yield "rho", rho, None
    yield "tokens", sequences * SMOLLM_TOKENS / 1e9, "billion"
    yield "hours", hours, "h"
    for fraction in (SALT, 0.5, 1.0):
        yield f"distilled.{fraction:g}", 1 + rho * fraction, None


def measured_rho(results: Path = RESULTS) -> dict[str, float]:
    """A teacher's forward as a part of a plain step, where our benchmarks have measured it, on a CPU."""

    def value(file: str, figure: str) -> float:
        content = json.loads((results / f"{file}.json").read_text(encoding="utf-8"))
        return float(content["figures"][figure]["value"])

    return {"resnet20": value("overhead", "teacher_share"), "modernbert": value("mlm-cost", "over_plain_step") - 1}


def all_figures(machine: Machine = A100) -> dict[str, Figure]:
    """Everything, by name."""
    figures = {f"rho.{name}": Figure(value=value) for name, value in measured_rho().items()}
    for training in trainings():
        for name, value, unit in counts(training, machine):
            figures[f"{training.name}.{name}"] = Figure(value=value, unit=unit)
        for gpus in GPUS:
            for name, value, unit in predictions(training, machine, gpus):
                figures[f"{training.name}.{gpus}.{name}"] = Figure(value=value, unit=unit)
    for name, value, unit in smaller_teacher(machine):
        figures[f"smollm.{name}"] = Figure(value=value, unit=unit)
    for fraction in FRACTIONS:
        figures[f"break_even.{fraction:g}"] = Figure(value=1 / speedup(1.0, RHO, fraction))
        for gain in GAINS:
            figures[f"speedup.{gain:g}.{fraction:g}"] = Figure(value=speedup(gain, RHO, fraction))
    return figures


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for scaling.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Compute, print a line a figure, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    figures = all_figures()
    for name, figure in figures.items():
        print(f"{name:40s} {figure.value:12.4g} {figure.unit or ''}")
    finish(
        "scaling",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        begin=begin,
        folder=options.out,
        packages=["transformers"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
