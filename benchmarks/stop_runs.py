"""Automatic stops in short real trainings, under a good, a middling and a poor teacher: stop-runs.json.

Usage: python benchmarks/stop_runs.py [--steps 800] [--work runs/stop] [--out benchmarks/results]

ResNet-8 on Fashion-MNIST, batch 128, one-cycle with a quarter of warm-up, weight 0.9, T = 4; judged on 5000 training
images set aside. `good` is examples/old-model, `middling` and `poor` are the student's own network after 300 and 50
steps. Each teaches until an automatic stop (no cap), for half of the training, and throughout; `none` is without.
Single runs: differences of two tenths of a percent are noise. The old model has seen the images set aside; what it is
for here is when it is let go. Finished runs are not done again. About 15 minutes on a quiet core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from headstart.recipe.load import parse_recipe
from headstart.records import RunRecord
from headstart.train.run import train
from results_file import RESULTS, Figure, command_line, finish

ROOT = Path(__file__).resolve().parent.parent
OLD_MODEL = ROOT / "examples" / "old-model"
TRAINED = {"middling": 300, "poor": 50}  # steps
STOPS: dict[str, dict[str, Any]] = {
    "auto": {"stop": "auto", "cap": 1.0},
    "half": {"stop": 0.5},
    "whole": {"stop": 1.0},
}


def run(name: str, folder: Path, steps: int, distill: dict[str, Any] | None = None, seed: int = 0) -> RunRecord:
    """Train, or take the record of a finished run."""
    content = {
        "name": name,
        "model": {"name": "resnet8", "width": 8},
        "data": {"name": "fashion-mnist", "augment": {"flip": True}, "holdout": 5000},
        "train": {"steps": steps, "lr": 0.2, "precision": "fp32", "clip_norm": 1.0, "seed": seed},
        "distill": distill,
    }
    record = train(parse_recipe(content, name), folder / name)
    told = "" if record.stopped is None else f"; {record.stopped.told}"
    print(f"{name:16s} {record.quality:.2%}{told}", flush=True)
    return record


def figures_of(steps: int, folder: Path) -> dict[str, Figure]:
    """Held-out accuracies, and where the automatic stops came."""
    none = run("none", folder, steps)
    figures = {"accuracy.none": Figure(value=none.quality, n=1)}
    places = {"good": OLD_MODEL, **{teacher: folder / teacher for teacher in TRAINED}}
    for teacher, trained in TRAINED.items():
        figures[f"accuracy.{teacher}-itself"] = Figure(value=run(teacher, folder, trained, seed=100).quality, n=1)
    for (stop, options), (teacher, place) in product(STOPS.items(), places.items()):
        record = run(f"{teacher}-{stop}", folder, steps, {"teachers": [{"spec": str(place)}], **options})
        figures[f"accuracy.{teacher}-{stop}"] = Figure(value=record.quality, n=1)
        if record.stopped is not None:
            where = record.stopped.step / record.stopped.total_steps
            figures[f"stop.{teacher}"] = Figure(value=where, unit="fraction of training", n=1)
    return figures


def main(arguments: Sequence[str]) -> None:
    """Train, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="of each training")
    parser.add_argument("--work", type=Path, default=Path("runs/stop"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for stop-runs.json")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    figures = figures_of(options.steps, options.work)
    finish(
        "stop-runs",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        begin=begin,
        folder=options.out,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
