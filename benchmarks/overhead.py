"""Measures what a Distiller costs a training step, against the same step written by hand.

Usage: python benchmarks/overhead.py [--pairs 200] [--runs 40] [--out benchmarks/results]

ResNet-20 on images of 32x32x3, batch 128, bf16 where the device has it in hardware, channels_last, SGD with momentum,
a ResNet-20 as the teacher. Everything runs in one process on the same tensors, the same student and the same teacher;
each ratio is of pairs of steps, interleaved in ABBA order. Run it on a quiet machine: 10 to 15 minutes on 2 cores
with bf16, or with --batch-size 64 without. torchdistill is measured too where it is installed (benchmarks/README.md
says how).

When the teacher is asked matters. A loop that calls a loss with the student's logits asks it between the student's
forward and its backward, while all that the backward needs is in memory; torchdistill, and `Distiller.prefetch`, ask it
before. A step is compared with one by hand that asks at the same time, and `early_teacher_ratio` says what asking
before saves, by hand. (torchdistill beside the step that asks late once passed for quicker than a step by hand.)

`default_run_ratio` is a whole short run, distilled on every second step of its first 0.3 (15 % of its steps) with a
teacher of the student's size, over the same run without. If distilling adds rho of a step, that is 1 + 0.15 rho: at
most 1.06 for a rho of at most 0.4. Where a teacher costs more, make its forward cheaper
(benchmarks/cheap_teachers.py) or distil a `fraction` of each batch.

`--model` takes a larger network (overhead_models.py), for GPUs. On CUDA, `side_stream_ratio` is a step whose teacher
runs beside the student's forward over one whose teacher runs after it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from overhead_steps import (
    TEMPERATURE,
    TOTAL_STEPS,
    WEIGHT,
    Work,
    bare,
    by_hand,
    default_run,
    make_work,
    one_after_the_other,
    run_of,
    teacher_alone,
    with_distiller,
    with_torchdistill,
    work_of,
)

import torchdistill_box
from headstart import Distiller
from overhead_models import MODELS
from results_file import RESULTS, Figure, command_line, finish, name_on
from step_times import Step, median_figure, paired_ratios

GOALS = {
    "step_ratio": 1.02,
    "prefetch_step_ratio": 1.02,
    "off_window_ratio": 1.01,
    "auto_stop_ratio": 1.01,
    "throughout_ratio_over_teacher_forward": 1.02,
    "default_run_ratio": 1.06,
}


def comparisons(work: Work) -> dict[str, tuple[Step, Step]]:
    """By figure: the step measured, and the one it is compared with.

    Raises:
        ArithmeticError: Two steps meant to do the same work give different losses.
    """
    plain, late, early, ask = bare(work), by_hand(work), by_hand(work, early=True), teacher_alone(work)
    distilling = Distiller(work.teacher, total_steps=TOTAL_STEPS, stop=1.0, temperature=TEMPERATURE, weight=WEIGHT)
    closed = Distiller(work.teacher, total_steps=TOTAL_STEPS, stop=0.4, temperature=TEMPERATURE, weight=WEIGHT)
    closed.current_step = TOTAL_STEPS // 2
    # It measures each of its steps, and decides nothing before the rate's warm-up is over.
    automatic = Distiller(
        work.teacher, total_steps=TOTAL_STEPS, stop="auto", cap=1.0, temperature=TEMPERATURE, weight=WEIGHT
    )
    prefetching = with_distiller(work, distilling, early=True)
    same_work = {
        "step_ratio": (with_distiller(work, distilling), late),
        "prefetch_step_ratio": (prefetching, early),
        "early_teacher_ratio": (early, late),
        "off_window_ratio": (with_distiller(work, closed), plain),
        "auto_stop_ratio": (with_distiller(work, automatic, labelled=True), with_distiller(work, distilling)),
    }
    if work.images.is_cuda:
        same_work["side_stream_ratio"] = (prefetching, with_distiller(work, distilling))
    if torchdistill_box.is_installed():
        same_work["torchdistill_step_ratio"] = (with_torchdistill(work), early)
    for name, (step, reference) in same_work.items():
        # Algorithms that cuDNN chooses anew may round otherwise.
        check_same_loss(name, step, reference, tolerance=1e-3 if work.images.is_cuda else 1e-5)
    throughout = (prefetching, one_after_the_other(ask, plain))
    return {**same_work, "throughout_ratio_over_teacher_forward": throughout, "teacher_share": (ask, plain)}


def check_same_loss(name: str, step: Step, reference: Step, *, tolerance: float = 1e-5) -> None:
    """Refuse to compare steps that do different work."""
    loss, expected = float(step()), float(reference())
    if not math.isclose(loss, expected, rel_tol=tolerance):
        raise ArithmeticError(f"{name}: the steps do different work, their losses are {loss} and {expected}")


def table_line(name: str, figure: Figure, goals: Mapping[str, float] = GOALS) -> str:
    """A figure as a line of the table; a goal is met when the interval's upper end meets it."""
    line = f"{name:38s} {figure.value:7.4f}   {figure.low:7.4f} to {figure.high:7.4f}   {figure.n:5d}"
    if name not in goals or figure.high is None:
        return line
    return f"{line}   {goals[name]:.2f}: {'met' if figure.high <= goals[name] else 'missed'}"


def measured(name: str, step: Step, reference: Step, pairs: int, device: torch.device) -> Figure:
    """A figure, printed as it comes."""
    figure = median_figure(paired_ratios(step, reference, pairs=pairs, device=device))
    print(table_line(name, figure), flush=True)
    return figure


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--runs", type=int, default=40, help="pairs of whole runs; fewer than 40 only for a trial")
    parser.add_argument("--model", choices=sorted(MODELS), help="instead of the small ResNet, and to another file")
    parser.add_argument("--miniature", action="store_true", help="that model's kind with tiny layers; a trial")
    parser.add_argument("--depth", type=int, default=20, help="layers of the ResNets; other than 20 only for a trial")
    parser.add_argument("--batch-size", type=int, default=128, help="64 is quick enough without bf16")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for overhead.json")
    return parser.parse_args(arguments)


def chosen_work(options: argparse.Namespace) -> Work:
    """What the steps share, by the command line."""
    if options.model is None:
        return make_work(options.depth, options.batch_size, options.device)
    make, batch = MODELS[options.model](options.batch_size, options.device, miniature=options.miniature)
    return work_of(make, batch, options.device)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    work = chosen_work(options)
    steps = comparisons(work)
    if "torchdistill_step_ratio" not in steps:
        print("torchdistill is not installed, so torchdistill_step_ratio is left out; see benchmarks/README.md")
    print(f"{'ratio of times':38s}  median   95 % interval         pairs   goal")
    figures = {}
    for name, (step, reference) in steps.items():
        figures[name] = measured(name, step, reference, options.pairs, options.device)
    whole = default_run(work), run_of(bare(work))
    figures["default_run_ratio"] = measured("default_run_ratio", *whole, options.runs, options.device)
    finish(
        name_on("-".join(filter(None, ["overhead", options.model])), options.device),
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        begin=begin,
        folder=options.out,
        packages=["torchdistill", "torchvision", "transformers"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
