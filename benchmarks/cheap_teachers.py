"""Measures what the options that make a teacher cheaper do to the time of its forward.

Usage: python benchmarks/cheap_teachers.py [--pairs 200] [--compile] [--out benchmarks/results]

ResNet-14 and ResNet-20 on images of 32x32x3, batch 128. The reference is a teacher as a run of ours is loaded: bf16
autocast, channels_last. Each figure is the time of a forward with one option changed over that of the reference, from
pairs made in ABBA order in one process. Run it on a quiet machine: about 4 minutes on 2 cores, one more with --compile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart import Teacher
from headstart.tasks.images.resnet import ResNet
from results_file import RESULTS, Figure, command_line, finish
from step_times import Step, median_figure, paired_ratios

REFERENCE: dict[str, Any] = {"autocast": torch.bfloat16, "memory_format": torch.channels_last}
WEIGHTS_TOO: dict[str, Any] = {"autocast": None, "dtype": torch.bfloat16}
OPTIONS: dict[str, dict[str, Any]] = {
    "fold": {"fold": True},
    "bf16_weights": WEIGHTS_TOO,
    "bf16_weights_fold": {**WEIGHTS_TOO, "fold": True},
    "size_24": {"size": 24},
    "contiguous": {"memory_format": torch.contiguous_format},
    "fp32": {"autocast": None, "dtype": torch.float32},
}


def lively_resnet(depth: int) -> nn.Module:
    """A ResNet whose batch norms have statistics and weights as training leaves them, not those that do nothing."""
    torch.manual_seed(0)
    network = ResNet(depth, classes=10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(64, 3, 32, 32))
    return network


def teacher(depth: int, device: torch.device, **options: Any) -> Teacher:
    """A teacher with these options instead of the reference's; always with the same weights."""
    made = Teacher(lively_resnet(depth), **{**REFERENCE, **options})
    made.to(device)
    return made


def forward(made: Teacher, images: Tensor) -> Step:
    """One forward."""
    return lambda: made.logits(images)


def check_same_outputs(name: str, step: Step, reference: Step) -> None:
    """Refuse to time an option that changes more than rounding does (fewer pixels are meant to)."""
    logits, expected = step().float(), reference().float()
    error = float((logits - expected).abs().mean() / expected.std())
    if error > 0.05 and "size" not in name:
        raise ArithmeticError(f"{name}: the logits differ from the reference's by {error:.3f} of their spread")


def measure(depth: int, options: argparse.Namespace) -> dict[str, Figure]:
    """All figures of one depth, printed as they come."""
    images = torch.randn(options.batch_size, 3, 32, 32, device=options.device)
    images = images.contiguous(memory_format=torch.channels_last)
    reference = forward(teacher(depth, options.device), images)
    figures = {}
    steps = {
        option: forward(teacher(depth, options.device, **changes), images)
        for option, changes in {**OPTIONS, **({"compile": {"compile": True}} if options.compile else {})}.items()
    }
    for option, step in steps.items():
        check_same_outputs(option, step, reference)
    # What a teacher costs of a Distiller with fraction=0.5.
    steps["fraction_half"] = forward(teacher(depth, options.device), images[: len(images) // 2])
    for option, step in steps.items():
        name = f"resnet{depth}_{option}_ratio"
        figures[name] = figure = median_figure(
            paired_ratios(step, reference, pairs=options.pairs, device=options.device)
        )
        print(f"{name:34s} {figure.value:7.4f}   {figure.low:7.4f} to {figure.high:7.4f}   {figure.n:5d}", flush=True)
    return figures


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pairs", type=int, default=200, help="of forwards, per ratio; fewer than 200 only for a trial"
    )
    parser.add_argument("--depths", type=int, nargs="+", default=[14, 20], help="layers of the ResNets")
    parser.add_argument("--batch-size", type=int, default=128, help="other than 128 only for a trial")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for cheap-teachers.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    print(f"{'ratio of forward times':34s}  median   95 % interval         pairs")
    figures = {name: figure for depth in options.depths for name, figure in measure(depth, options).items()}
    finish(
        "cheap-teachers",
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        begin=begin,
        folder=options.out,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
