"""Runs the trials of tune.yaml on held-out training images and records what each of them reached.

Usage: python benchmarks/tune.py [--workers 2] [--out runs/tune] [--results benchmarks/results]

Finished trials are not run again, so that trials can be added as the search goes on. A trial may use an earlier one as
its teacher by name. Costs are FLOPs over those of the trial `baseline`, as trials run side by side and their seconds
mean little. Trials are single runs: differences of a few tenths of a percent are noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml

from headstart.experiment.worker_processes import Workers
from headstart.recipe.load import parse_recipe, varied
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord
from headstart.train.run import train
from results_file import RESULTS, Figure, command_line, new_result, write_result

HERE = Path(__file__).parent


def recipe_of(settings: dict[str, Any], overrides: dict[str, Any]) -> Recipe:
    """The recipe of a trial."""
    return varied(parse_recipe(settings["recipe"], "tune.yaml"), overrides, "tune.yaml")


def run_trial(name: str, recipe: Recipe, out: Path) -> RunRecord:
    """Run a trial as soon as its teachers are there."""
    paths = {teacher: out / teacher for teacher in (recipe.distill.specs if recipe.distill else [])}
    while not all((path / "record.json").exists() for path in paths.values()):
        time.sleep(2)
    return train(recipe, out / name, teacher_paths=paths)


def figures_of(records: dict[str, RunRecord]) -> dict[str, Figure]:
    """Held-out accuracy and loss of each trial, and its cost."""
    unit = records["baseline"].flops or 1.0
    figures: dict[str, Figure] = {}
    for name, record in records.items():
        figures[f"accuracy.{name}"] = Figure(value=record.quality, unit="accuracy", n=1)
        figures[f"loss.{name}"] = Figure(value=round(record.losses["held_out_loss"], 4), n=1)
        figures[f"cost.{name}"] = Figure(value=round((record.flops or 0.0) / unit, 3), unit="baseline FLOPs")
    return figures


def main() -> None:
    """Run all trials that have not run yet; print each as it ends, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    settings = yaml.safe_load((HERE / "tune.yaml").read_text())
    recipes = {name: recipe_of(settings, overrides or {}) for name, overrides in settings["trials"].items()}
    with Workers(arguments.workers) as workers, ThreadPoolExecutor(arguments.workers) as threads:

        def run(name: str) -> RunRecord:
            record = workers.call(run_trial, name, recipes[name], arguments.out)
            print(f"{name:40s} {record.quality:.4f}  loss {record.losses['held_out_loss']:.4f}", flush=True)
            return record

        records = dict(zip(recipes, threads.map(run, recipes), strict=True))
    result = new_result(
        "tune-fashion-mnist",
        figures_of(records),
        command=command_line(__file__, sys.argv[1:]),
        device=torch.device("cpu"),
        seconds=sum(record.seconds for record in records.values()),
    )
    print(f"wrote {write_result(result, arguments.results)}")


if __name__ == "__main__":
    main()
