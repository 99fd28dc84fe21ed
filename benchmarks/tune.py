"""Runs the trials of a file on held-out training images and records what each of them reached.

Usage: python benchmarks/tune.py [TRIALS.yaml] [--workers 2] [--out runs/tune] [--results benchmarks/results]

A file holds a `recipe` and either `trials` by name, each a set of changes to it, or the `product` of several choices.
Finished trials are not run again, so that trials can be added as the search goes on. A trial may use an earlier one as
its teacher by name. Costs are FLOPs over those of the (first) baseline, as trials run side by side
and their seconds mean little. With one seed, differences of a few tenths of a percent are noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import fmean
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


def trials_of(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The changes of each trial by its name; of a product `choice=value` for each choice, joined by commas."""
    if "trials" in settings:
        return {name: overrides or {} for name, overrides in settings["trials"].items()}
    choices: dict[str, dict[Any, dict[str, Any]]] = settings["product"]
    return {
        ",".join(f"{choice}={value}" for choice, value in zip(choices, values, strict=True)): {
            key: change
            for choice, value in zip(choices, values, strict=True)
            for key, change in choices[choice][value].items()
        }
        for values in product(*choices.values())
    }


def recipe_of(settings: Mapping[str, Any], overrides: dict[str, Any], source: str) -> Recipe:
    """The recipe of a trial."""
    return varied(parse_recipe(settings["recipe"], source), overrides, source)


def run_trial(name: str, recipe: Recipe, out: Path) -> RunRecord:
    """Run a trial as soon as its teachers are there."""
    specs = recipe.distill.specs if recipe.distill else []
    paths = {spec: out / spec for spec in specs if not Path(spec).exists()}
    while not all((path / "record.json").exists() for path in paths.values()):
        time.sleep(2)
    return train(recipe, out / name, teacher_paths=paths or None)


def figures_of(records: Mapping[str, list[RunRecord]]) -> dict[str, Figure]:
    """Held-out accuracy and loss of each trial, the mean of its seeds, and its cost."""
    first = next((name for name in records if name == "baseline" or name.startswith("arm=")), "")
    unit = (records[first][0].flops if first else None) or 1.0
    figures: dict[str, Figure] = {}
    for name, runs in records.items():
        accuracy, loss = fmean(run.quality for run in runs), fmean(run.losses["held_out_loss"] for run in runs)
        figures[f"accuracy.{name}"] = Figure(value=round(accuracy, 6), unit="accuracy", n=len(runs))
        figures[f"loss.{name}"] = Figure(value=round(loss, 4), n=len(runs))
        figures[f"cost.{name}"] = Figure(value=round((runs[0].flops or 0.0) / unit, 3), unit="baseline FLOPs")
    return figures


def run_all(recipes: Mapping[str, Recipe], seeds: list[int], out: Path, workers: int) -> dict[str, list[RunRecord]]:
    """Run each trial with each seed; without seeds once, with the recipe's. Print each as it ends."""
    jobs = list(recipes.items())
    if seeds:
        jobs = [(name, varied(recipe, {"train.seed": seed}, "seeds")) for name, recipe in jobs for seed in seeds]
    with Workers(workers) as processes, ThreadPoolExecutor(workers) as threads:

        def run(job: tuple[str, Recipe]) -> RunRecord:
            name, recipe = job
            folder = f"{name},seed={recipe.train.seed}" if seeds else name
            record = processes.call(run_trial, folder, recipe, out)
            print(f"{folder:40s} {record.quality:.4f}  loss {record.losses['held_out_loss']:.4f}", flush=True)
            return record

        records: dict[str, list[RunRecord]] = {name: [] for name in recipes}
        for (name, _), record in zip(jobs, threads.map(run, jobs), strict=True):
            records[name].append(record)
    return records


def main() -> None:
    """Run all trials that have not run yet, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=Path, nargs="?", default=HERE / "tune.yaml", help="the file of trials")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    settings = yaml.safe_load(arguments.trials.read_text(encoding="utf-8"))
    recipes = {
        name: recipe_of(settings, changes, arguments.trials.name) for name, changes in trials_of(settings).items()
    }
    records = run_all(recipes, settings.get("seeds", []), arguments.out, arguments.workers)
    result = new_result(
        settings.get("name", "tune-fashion-mnist"),
        figures_of(records),
        command=command_line(__file__, sys.argv[1:]),
        device=torch.device("cpu"),
        seconds=sum(record.seconds for runs in records.values() for record in runs),
    )
    print(f"wrote {write_result(result, arguments.results)}")


if __name__ == "__main__":
    main()
