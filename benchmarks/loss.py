"""Measures the fused loss: its time and memory against the usual formulation, compiled too, and other libraries'.

Usage: python benchmarks/loss.py [--pairs 60] [--out benchmarks/results]

4096 rows of 30522 classes in bf16, forward and backward; 0.1 cross-entropy + 0.9 KL at T = 4. Everything runs on the
same tensors; each ratio of times is of pairs of steps in one process, interleaved in ABBA order. Run it on a quiet
Linux machine with 12 GB of free memory: about half an hour on 2 cores, most of it for the libraries that are measured
beside where they are installed (benchmarks/README.md says how).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import loss_formulations as ways
from loss_formulations import Formulation, Work, installed, make_step, make_work
from peak_memory import peak_bytes
from results_file import RESULTS, Figure, command_line, finish, name_on
from step_times import median_figure, paired_ratios

FEATURES = 768  # of the hidden states, as BERT-base has
PAIRS_BESIDE = 8  # of steps, at most, for ratios without a goal: some take half a minute a pair
ERROR_ROWS = 256  # that the gradient is compared with float64 on
GOALS = {"memory_units": 1.3, "time_vs_eager": 0.15, "time_vs_compiled": 1.0}
GOALS_ON_CUDA = {**GOALS, "time_vs_eager": 0.6}

# By figure: what is measured, and what it is compared with. The first has a goal; the others stand beside it.
RATIOS: dict[str, tuple[Formulation, Formulation]] = {
    "time_vs_eager": (ways.fused, ways.eager),
    "task_time_vs_eager": (ways.task_fused, ways.task_eager),
    "linear_time_vs_eager": (ways.linear_fused, ways.linear_eager),
    "time_vs_torchdistill": (ways.fused, ways.torchdistill),
    "time_vs_trl": (ways.fused, ways.trl),
    "linear_time_vs_liger": (ways.linear_fused, ways.linear_liger),
    "linear_time_vs_trl": (ways.linear_fused, ways.linear_trl),
}
PEAKS: dict[str, Formulation] = {
    "memory_units": ways.fused,
    "memory_units_eager": ways.eager,
    "memory_units_torchdistill": ways.torchdistill,
    "memory_units_trl": ways.trl,
    "linear_memory_units": ways.linear_fused,
    "linear_memory_units_eager": ways.linear_eager,
}


def memory_units(formulation: Formulation, rows: int, classes: int, device: torch.device) -> Figure:
    """The peak above the inputs, gradients included, in units of one bf16 tensor `[rows, classes]`."""
    peak = peak_bytes(partial(_prepared, formulation, rows, classes, device), device)
    return Figure(value=round(peak / (2 * rows * classes), 3))


def gradient_error(formulation: Formulation, work: Work) -> Figure:
    """How far the bf16 gradient is from that of the usual formulation in float64, relative to its length."""
    wide = replace(work, student=work.student.detach().double().requires_grad_(), teacher=work.teacher.double())
    (exact,) = torch.autograd.grad(ways.eager(wide), wide.student)
    (gradient,) = torch.autograd.grad(formulation(work), work.student)
    return Figure(value=float((gradient.double() - exact).norm() / exact.norm()))


def time_ratio(formulation: Formulation, reference: Formulation, work: Work, pairs: int) -> Figure:
    """The median of the paired ratios of their times."""
    steps = make_step(formulation, work), make_step(reference, work)
    return median_figure(paired_ratios(*steps, pairs=pairs, device=work.student.device))


def check_same_objective(work: Work) -> None:
    """Refuse to compare formulations that are meant to have one objective and do not.

    Raises:
        ArithmeticError: Their losses differ.
    """
    pairs: list[tuple[Formulation, Formulation]] = [
        (ways.fused, ways.eager),
        (ways.torchdistill, ways.eager),
        (ways.linear_fused, ways.linear_eager),
        (ways.linear_liger, ways.linear_eager),
    ]
    for formulation, reference in pairs:
        if installed(formulation):
            loss, expected = formulation(work).item(), reference(work).item()
            if not math.isclose(loss, expected, rel_tol=1e-2):  # Liger's is as exact as bf16
                raise ArithmeticError(f"{formulation.__name__}: the loss is {loss}, and should be {expected}")


def measure(work: Work, options: argparse.Namespace) -> Iterator[tuple[str, Figure]]:
    """One figure after the other."""
    rows, classes = work.student.shape
    for name, formulation in PEAKS.items():
        if installed(formulation):
            yield name, memory_units(formulation, rows, classes, options.device)
    for name, formulation in (("gradient_error", ways.fused), ("gradient_error_eager", ways.eager)):
        yield name, gradient_error(formulation, work.first(ERROR_ROWS))
    if options.compiled:
        yield "time_vs_compiled", time_ratio(ways.fused, torch.compile(ways.eager), work, options.pairs)
    for name, (formulation, reference) in RATIOS.items():
        if installed(reference):
            pairs = options.pairs if name in GOALS else min(options.pairs, PAIRS_BESIDE)
            yield name, time_ratio(formulation, reference, work, pairs)


def table_line(name: str, figure: Figure, goals: Mapping[str, float]) -> str:
    """A figure as a line of the table; a goal is met when the interval's upper end meets it."""
    interval = f"{figure.low:8.4f} to {figure.high:7.4f}   {figure.n:5d}" if figure.high is not None else 27 * " "
    line = f"{name:28s} {figure.value:8.4f}  {interval}"
    if name not in goals:
        return line
    met = (figure.value if figure.high is None else figure.high) <= goals[name]
    return f"{line}   {goals[name]:.2f}: {'met' if met else 'missed'}"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60, help="of steps, per ratio; fewer than 60 only for a trial")
    parser.add_argument("--rows", type=int, default=4096, help="other than 4096 only for a trial")
    parser.add_argument("--classes", type=int, default=30522, help="other than 30522 only for a trial")
    parser.add_argument("--no-compiled", dest="compiled", action="store_false", help="without torch.compile; a trial")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for loss.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    work = make_work(options.rows, options.classes, FEATURES, options.device)
    check_same_objective(work.first(64))
    print(f"{'figure':28s}    value   95 % interval         pairs   goal")
    figures = {}
    for name, figure in measure(work, options):
        figures[name] = figure
        print(table_line(name, figure, GOALS_ON_CUDA if options.device.type == "cuda" else GOALS), flush=True)
    finish(
        name_on("loss", options.device),
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        begin=begin,
        folder=options.out,
        packages=["liger-kernel", "torchdistill", "triton", "trl"],
    )


def _prepared(formulation: Formulation, rows: int, classes: int, device: torch.device) -> Callable[[], Tensor]:
    work = make_work(rows, classes, FEATURES, device)
    make_step(formulation, work.first(128))()  # loads what is loaded once
    return make_step(formulation, work)


if __name__ == "__main__":
    main(sys.argv[1:])
