"""Measures what a distilling step costs in each training loop, against the same written by hand in that loop.

Usage: python benchmarks/adapters.py [--pairs 200] [--out benchmarks/results]

The work is that of overhead.py: ResNet-20 on images of 32x32x3, batch 128, bf16 where the device has it in hardware,
SGD with momentum, and a ResNet-20 as the teacher. Each figure is a ratio of step times, in pairs of steps in ABBA
order. In a Trainer the steps are those of one training, which makes them by hand and with the adapter in turn.
torchdistill and timm, where they are installed, do the same in a plain loop. The step by hand asks its teacher when
the other does: before the student's forward (Trainer, torchdistill) or after it; overhead.py says why that matters.
Run it on a quiet machine: about 10 minutes on 2 cores with bf16, or with --batch-size 64 without.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from overhead import check_same_loss, table_line
from overhead_steps import (
    TEMPERATURE,
    TOTAL_STEPS,
    WEIGHT,
    Work,
    by_hand,
    make_work,
    with_distiller,
    with_torchdistill,
)

import torchdistill_box
from framework_loops import accelerate_ratios, bare, lightning_ratios, trainer_ratios
from headstart import Distiller
from results_file import RESULTS, command_line, finish
from step_times import Step, median_figure, paired_ratios

GOALS = {f"{loop}_step_ratio": 1.02 for loop in ("plain", "accelerate", "trainer", "lightning")}
Ratios = Callable[[Work, int], list[float]]


def plain_ratios(work: Work, pairs: int) -> list[float]:
    """A Distiller in a plain loop."""
    distiller = Distiller(work.teacher, total_steps=TOTAL_STEPS, stop=1.0, temperature=TEMPERATURE, weight=WEIGHT)
    return _against_hand("plain", with_distiller(work, distiller), work, pairs)


def torchdistill_ratios(work: Work, pairs: int) -> list[float]:
    """The box of torchdistill."""
    return _against_hand("torchdistill", with_torchdistill(work), work, pairs, early=True)


def timm_ratios(work: Work, pairs: int) -> list[float]:
    """The task of timm."""
    return _against_hand("timm", with_timm(work), work, pairs)


def with_timm(work: Work) -> Step:
    """A distilling step as timm's training script makes it."""
    normalised: Any = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # alike, so that nothing is normalised again
    for network in (bare(work.student), bare(work.teacher)):  # where timm looks
        network.pretrained_cfg, network.num_classes, network.in_chans = normalised, 10, 3
    task = importlib.import_module("timm.task").LogitDistillationTask(
        work.student,
        work.teacher,
        criterion=torch.nn.CrossEntropyLoss(),
        temperature=TEMPERATURE,
        task_loss_weight=1.0 - WEIGHT,
        device=work.images.device,
        verbose=False,
    )
    return lambda: work.update(task(work.images, work.labels)["loss"])


def _against_hand(name: str, step: Step, work: Work, pairs: int, *, early: bool = False) -> list[float]:
    reference = by_hand(work, early=early)
    check_same_loss(name, step, reference)
    return paired_ratios(step, reference, pairs=pairs, device=work.images.device)


LOOPS: dict[str, Ratios] = {
    "plain": plain_ratios,
    "accelerate": accelerate_ratios,
    "trainer": trainer_ratios,
    "lightning": lightning_ratios,
    "torchdistill": torchdistill_ratios,
    "timm": timm_ratios,
}
_NEEDS = {"trainer": "transformers"}  # where it is not the loop's own name


def is_installed(loop: str) -> bool:
    """Whether what the loop needs is there."""
    if loop == "torchdistill":
        return torchdistill_box.is_installed()
    return loop == "plain" or importlib.util.find_spec(_NEEDS.get(loop, loop)) is not None


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--depth", type=int, default=20, help="layers of the ResNets; other than 20 only for a trial")
    parser.add_argument("--batch-size", type=int, default=128, help="64 is quick enough without bf16")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for adapters.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    figures = {}
    if importlib.util.find_spec("torchvision") is not None:
        torchdistill_box.import_torchvision()  # before others do, who do not get along with a broken one
    for loop, ratios in LOOPS.items():
        if not is_installed(loop):
            print(f"{loop} is not installed, so {loop}_step_ratio is left out; see benchmarks/README.md")
            continue
        work = make_work(options.depth, options.batch_size, options.device)
        name = f"{loop}_step_ratio"
        figures[name] = median_figure(ratios(work, options.pairs))
        print(table_line(name, figures[name], GOALS), flush=True)
    finish(
        "adapters",
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        begin=begin,
        folder=options.out,
        packages=["transformers", "lightning", "torchdistill", "timm"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
