"""How often the demo's verdict is resolved, from a race of the demo with many seeds: demo.json.

Usage: python benchmarks/demo.py [--workers 2] [--seeds 10] [--repetitions 1000] [--out runs/demo-bank]

A repetition is the demo with other seeds: each of its cells (arm and budget) takes as many runs as the demo has seeds,
drawn without replacement from the runs of that cell in the big race, and it is judged as the demo is. Finished runs are
not done again. With 10 seeds it takes about a quarter of an hour on 2 cores.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from headstart.experiment.race import race_recipe
from headstart.race import judge
from headstart.recipe.load import load_recipe
from headstart.records import ArmResult, RaceRecord, RunRecord
from headstart.report import verdict_sentence, write_report
from results_file import RESULTS, Figure, command_line, finish

DEMO = Path(__file__).parent.parent / "recipes" / "demo.yaml"
FIRST_SEED = 100  # none of the demo's own


def repetitions(bank: RaceRecord, seeds: int, count: int) -> list[RaceRecord]:
    """Races of fewer seeds, drawn from a race of many, and judged.

    Args:
        bank: The race of many seeds.
        seeds: Runs of each cell in a repetition.
        count: How many repetitions.
    """
    draw, cells, races = random.Random(0), cells_of(bank), []
    for _ in range(count):
        runs = [
            run.model_copy(update={"seed": seed})
            for cell in cells.values()
            for seed, run in enumerate(draw.sample(cell, seeds))
        ]
        races.append(judge(bank.model_copy(update={"seeds": list(range(seeds)), "runs": runs, "results": []})))
    return races


def figures_of(bank: RaceRecord, races: Sequence[RaceRecord], workers: int) -> dict[str, Figure]:
    """What the big race says, and how the repetitions fared."""
    whole, found = primary_result(bank), [primary_result(race) for race in races]
    speedups = [result.speedup.value for result in found if result.speedup is not None]
    low, high = np.quantile(speedups, [0.025, 0.975])
    verdicts = [result.verdict for result in found]
    figures = {
        f"share_{verdict.replace(' ', '_')}": Figure(value=verdicts.count(verdict) / len(verdicts), n=len(verdicts))
        for verdict in ("faster", "slower", "not resolved")
    }
    figures["share_resolved"] = Figure(value=1 - figures["share_not_resolved"].value, n=len(verdicts))
    figures["speedup_of_a_repetition"] = Figure(
        value=median(speedups), low=float(low), high=float(high), n=len(speedups)
    )
    figures["seeds_of_a_repetition"] = Figure(value=len(races[0].seeds))
    figures["training_minutes"] = Figure(value=median(map(calibrated_seconds, races)) / 60 / workers, unit="min")
    seeds = len(bank.seeds)
    for result in (result for result in bank.results if result.clock in ("calibrated", "flops")):
        for name, estimate in (("speedup", result.speedup), ("speedup_over_all_qualities", result.overlap_speedup)):
            if estimate is not None:
                figure = Figure(value=estimate.value, low=estimate.low, high=estimate.high, n=seeds)
                figures[f"{name}.{result.arm}.{result.clock}"] = figure
    if whole.loaded_speedup is not None:
        figures["loaded_speedup"] = Figure(value=whole.loaded_speedup)
    figures |= {f"quality.{arm}.{budget:g}-steps": figure for (arm, budget), figure in qualities(bank).items()}
    teacher = next(teacher for run in bank.runs for teacher in run.teachers)
    if teacher.quality is not None:
        figures["teacher_quality"] = Figure(value=teacher.quality, unit="accuracy")
    return figures


def primary_result(race: RaceRecord) -> ArmResult:
    """The result of the primary arm on the headline's clock."""
    return next(result for result in race.results if (result.arm, result.clock) == (race.primary, race.headline_clock))


def cells_of(race: RaceRecord) -> dict[tuple[str, float], list[RunRecord]]:
    """The runs of each arm and budget."""
    cells: dict[tuple[str, float], list[RunRecord]] = {}
    for run in race.runs:
        cells.setdefault((run.arm, run.budget), []).append(run)
    return cells


def qualities(race: RaceRecord) -> dict[tuple[str, float], Figure]:
    """The mean quality of each cell."""
    return {
        cell: Figure(value=sum(run.quality for run in runs) / len(runs), unit="accuracy", n=len(runs))
        for cell, runs in cells_of(race).items()
    }


def calibrated_seconds(race: RaceRecord) -> float:
    """What the trainings of a race take one after the other, in calibrated seconds."""
    assert race.calibration is not None
    kinds = race.calibration.kinds
    return sum(number * kinds[kind].seconds for run in race.runs for kind, number in run.steps.items())


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10, help="of the big race")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-bank"), help="the race folder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("overrides", nargs="*", help="changes to the recipe, for a trial")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Race with many seeds, draw repetitions, write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    demo = load_recipe(DEMO, options.overrides)
    assert demo.race is not None
    seeds = list(range(FIRST_SEED, FIRST_SEED + options.seeds))
    many = demo.model_copy(update={"race": demo.race.model_copy(update={"seeds": seeds})})
    bank = race_recipe(many, options.out, workers=options.workers)
    for failure in bank.failures:
        raise SystemExit(f"{failure.arm}, budget {failure.budget:g}, seed {failure.seed}: {failure.message}")
    write_report(bank, options.out)
    print(verdict_sentence(bank), flush=True)
    races = repetitions(bank, len(demo.race.seeds), options.repetitions)
    figures = figures_of(bank, races, options.workers)
    trained = sum(run.seconds for run in bank.runs) / options.workers  # also in an earlier start
    finish(
        "demo",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        begin=min(begin, time.perf_counter() - trained),
        folder=options.results,
        packages=["datasets"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
