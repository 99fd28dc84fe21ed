"""Measures what a pool of teachers costs: drawn one per step and streamed, against one teacher that is always there.

Usage: python benchmarks/pool.py [--pairs 200] [--out benchmarks/results]

Time: ResNet-20 on images of 32x32x3, batch 128, bf16 autocast, channels_last, SGD with momentum; as many ResNet-20 as
teachers. A figure is the time of a step over that of the same step with one resident teacher, from pairs made in ABBA
order in one process: `stream_N_time_ratio` for a pool of N of which two at most are on the device, and
`all_N_time_ratio` for the mean of all N, for contrast.

Memory: what the pool and its steps add at the highest, in units of one teacher, where a teacher is large for what it
computes (linear layers, a batch of 8): `stream_N_memory_units`, and `resident_N_memory_units` for N that stay. On a CPU
a little more than the device's memory counts: what reading files takes, for one.

Run it on a quiet machine: about 8 minutes on 2 cores, and 2 GB of memory and of disk.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart import Distiller, Teacher, TeacherPool
from headstart.tasks.images.resnet import ResNet
from peak_memory import peak_bytes
from results_file import RESULTS, Figure, command_line, finish, name_on
from step_times import Step, median_figure, paired_ratios

SIZES = (1, 2, 4, 8, 16)
TOTAL_STEPS = 1_000_000  # more than are ever made, so that the window does not close
PAIRS_BESIDE = 50  # of steps, at most, for the mean of all, which has no goal
LAYERS = 2
STREAMED: dict[str, Any] = {"residence": "stream"}
GOALS = {f"stream_{size}_time_ratio": 1.02 for size in SIZES} | {f"stream_{size}_memory_units": 2.5 for size in SIZES}


def resnets(count: int, depth: int, device: torch.device) -> Iterator[Teacher]:
    """Teachers for the time, one by one."""
    for _ in range(count):
        network = ResNet(depth, classes=10).to(device)
        yield Teacher(network, autocast=torch.bfloat16, memory_format=torch.channels_last)


def step_maker(depth: int, batch_size: int, device: torch.device) -> Callable[[TeacherPool], Step]:
    """What makes the distilling step of a pool; all steps share batch, student and optimiser."""
    torch.manual_seed(0)
    student = ResNet(depth, classes=10).to(device)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # At a learning rate of 0 the weights stay; the update is computed all the same.
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch_size,), device=device)

    def of(pool: TeacherPool) -> Step:
        distiller = Distiller(pool, total_steps=TOTAL_STEPS, stop=1.0)

        def step() -> Tensor:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                logits = student(images)
            loss = distiller.loss(logits, labels, images)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            distiller.step()
            return loss.detach()

        return step

    return of


def time_figures(sizes: Sequence[int], options: argparse.Namespace) -> Iterator[tuple[str, Figure]]:
    """Ratios of step times, as they come."""
    device = options.device
    step_of = step_maker(options.depth, options.batch_size, device)

    def pool(count: int, **how: Any) -> TeacherPool:
        return TeacherPool(resnets(count, options.depth, device), **how)

    reference = step_of(pool(1))
    for size in sizes:
        step = step_of(pool(size, **STREAMED))
        yield (
            f"stream_{size}_time_ratio",
            median_figure(paired_ratios(step, reference, pairs=options.pairs, device=device)),
        )
    for size in sizes:
        step, pairs = step_of(pool(size, draw="all")), min(options.pairs, PAIRS_BESIDE)
        yield f"all_{size}_time_ratio", median_figure(paired_ratios(step, reference, pairs=pairs, device=device))


def linears(count: int, width: int) -> Iterator[Teacher]:
    """Teachers for the memory, one by one; they wait to be sent to the device."""
    for _ in range(count):
        yield Teacher(nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS))))


def use_pool(count: int, how: Mapping[str, Any], width: int, device: torch.device) -> Callable[[], object]:
    """The work makes a pool and asks it at twice as many steps as it has teachers; done with tiny ones before."""

    def work(width: int) -> TeacherPool:
        inputs, pool = torch.randn(8, width, device=device), TeacherPool(linears(count, width), **how)
        for step in range(2 * count):
            for teacher in pool.asked(step, device, following=step + 1):
                teacher.targets(inputs, None)
        return pool

    work(8)  # libraries take memory of their own when they are first used
    return partial(work, width)


def memory_figures(sizes: Sequence[int], options: argparse.Namespace) -> Iterator[tuple[str, Figure]]:
    """Peaks in units of one teacher, as they come."""
    unit = LAYERS * 4 * options.width**2
    for name, how in (("stream", STREAMED), ("resident", {"draw": "all"})):
        for size in sizes:
            peak = peak_bytes(partial(use_pool, size, how, options.width, options.device), options.device)
            yield f"{name}_{size}_memory_units", Figure(value=round(peak / unit, 3))


def table_line(name: str, figure: Figure) -> str:
    """A figure as a line of the table; a goal is met when the interval's upper end meets it."""
    high = figure.value if figure.high is None else figure.high
    interval = "" if figure.high is None else f"{figure.low:7.4f} to {figure.high:7.4f}   {figure.n:5d}"
    goal = f"   {GOALS[name]:.2f}: {'met' if high <= GOALS[name] else 'missed'}" if name in GOALS else ""
    return f"{name:28s} {figure.value:7.4f}   {interval}{goal}"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the pools")
    parser.add_argument("--depth", type=int, default=20, help="layers of the ResNets; other than 20 only for a trial")
    parser.add_argument("--batch-size", type=int, default=128, help="other than 128 only for a trial")
    parser.add_argument(
        "--width", type=int, default=3072, help="of the linear layers; with less, what the allocator keeps shows"
    )
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for pool.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    print(f"{'figure':28s}  value    95 % interval         pairs   goal")
    figures = {}
    for measure in (memory_figures, time_figures):
        for name, figure in measure(options.sizes, options):
            figures[name] = figure
            print(table_line(name, figure), flush=True)
    finish(
        name_on("pool", options.device),
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        begin=begin,
        folder=options.out,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
