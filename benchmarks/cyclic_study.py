"""Races cyclic.yaml twice, with a run for each budget and with one training in cycles: cyclic.json.

Usage: python benchmarks/cyclic_study.py [--workers 2] [--first-cycle 1] [--cycles 3] [--seeds 3] [--out runs/cyclic]

Both races have the same arms, budgets, seeds and teacher; the figures tell what they agree on, and what each of them
computed. Finished runs are not done again. It takes about 40 minutes on 2 cores; `--first-cycle 0.1` makes it short
for a trial, which needs another `--out` and `--results`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from scipy import stats

from headstart.experiment.race import race_recipe
from headstart.recipe.load import load_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import ArmResult, Estimate, RaceRecord, RunRecord
from headstart.report import verdict_sentence, write_report
from results_file import RESULTS, Figure, command_line, new_result, write_result

RACED = Path(__file__).parent / "cyclic.yaml"


def study_recipe(curve: str, *, first_cycle: float, cycles: int, seeds: int, width: int) -> Recipe:
    """The recipe, raced at the ends of some cycles."""
    budgets = [round(first_cycle * (2**number - 1), 9) for number in range(1, cycles + 1)]
    overrides = {"model.width": width, "race.curve": curve, "race.budgets": budgets, "race.seeds": list(range(seeds))}
    return load_recipe(RACED, [f"{key}={value}" for key, value in overrides.items()])


def figures_of(separate: RaceRecord, cyclic: RaceRecord) -> dict[str, Figure]:
    """What the two races say of the same arms, and what they cost."""
    figures: dict[str, Figure] = {}
    for arm in separate.arms:
        for budget in separate.budgets:
            at = f"{arm.name}.{budget:g}-{separate.budget_unit}"
            by_seed = [_qualities(race, arm.name, budget) for race in (separate, cyclic)]
            shared = sorted(by_seed[0].keys() & by_seed[1].keys())
            for name, found in zip(("separate", "cyclic"), by_seed, strict=True):
                figures[f"quality.{name}.{at}"] = _figure([found[seed] for seed in shared])
            figures[f"difference.{at}"] = _figure([by_seed[1][seed] - by_seed[0][seed] for seed in shared])
    for name, race in (("separate", separate), ("cyclic", cyclic)):
        for result in race.results:
            figures |= _result_figures(f"{name}.{result.arm}.{result.clock}", result)
        figures[f"flops.{name}"] = Figure(value=_computed(race, "flops"), unit="FLOPs")
        figures[f"seconds.{name}"] = Figure(value=_computed(race, "seconds"), unit="s")
    figures["compute_ratio"] = Figure(value=figures["flops.cyclic"].value / figures["flops.separate"].value)
    return figures


def _qualities(race: RaceRecord, arm: str, budget: float) -> dict[int, float]:
    return {run.seed: run.quality for run in race.runs if (run.arm, run.budget) == (arm, budget)}


def _figure(values: Sequence[float]) -> Figure:
    """The mean, with the 95 % interval of Student's t where there are several values."""
    if len(values) < 2:
        return Figure(value=mean(values), n=len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Figure(value=mean(values), low=mean(values) - reach, high=mean(values) + reach, n=len(values))


def _result_figures(name: str, result: ArmResult) -> dict[str, Figure]:
    estimates: dict[str, Estimate | None] = {
        "speedup": result.speedup,
        "overlap_speedup": result.overlap_speedup,
        "gain": result.gain,
    }
    return {
        f"{what}.{name}": Figure(value=estimate.value, low=estimate.low, high=estimate.high)
        for what, estimate in estimates.items()
        if estimate is not None
    }


def _computed(race: RaceRecord, clock: str) -> float:
    """What the trainings of a race cost: in a cyclic one a run's cost has those of the shorter ones in it."""
    longest: dict[tuple[str, int, float], RunRecord] = {}
    for run in sorted(race.runs, key=lambda run: run.budget):
        longest[run.arm, run.seed, 0.0 if race.curve == "cyclic" else run.budget] = run
    return float(sum(getattr(run, clock) or 0.0 for run in longest.values()))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--first-cycle", type=float, default=1.0, help="in epochs")
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="of the ResNet-8's first block, in channels")
    parser.add_argument("--out", type=Path, default=Path("runs/cyclic"), help="folder of both race folders")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Run both races, draw their reports, write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    races: list[RaceRecord] = []
    for curve in ("separate", "cyclic"):
        recipe = study_recipe(
            curve,
            first_cycle=options.first_cycle,
            cycles=options.cycles,
            seeds=options.seeds,
            width=options.width,
        )
        folder = options.out / curve
        if races and not (folder / "teachers").exists():  # the very same teacher; it is trained once
            shutil.copytree(options.out / "separate" / "teachers", folder / "teachers")
        races.append(race_recipe(recipe, folder, workers=options.workers))
        for failure in races[-1].failures:
            raise SystemExit(f"{failure.arm}, budget {failure.budget:g}, seed {failure.seed}: {failure.message}")
        write_report(races[-1], folder)
        print(f"{curve}: {verdict_sentence(races[-1])}", flush=True)
    figures = figures_of(*races)
    # What training took, also in an earlier start that had finished its runs.
    seconds = max(time.perf_counter() - begin, figures["seconds.separate"].value + figures["seconds.cyclic"].value)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = new_result("cyclic", figures, command=command_line(__file__, arguments), device=device, seconds=seconds)
    print(f"wrote {write_result(result, options.results)}")


if __name__ == "__main__":
    main(sys.argv[1:])
