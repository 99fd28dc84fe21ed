"""Races a recipe and records its speed-ups: the figures behind race-*.json.

Usage: python benchmarks/race.py RECIPE [key=value ...] --name race-fashion-mnist [--workers 2] [--out runs/NAME]

The race itself is `headstart race`; a race folder that is finished is only judged again, with --judge also one that an
older version has made, whose recipes had other keys. Raw seconds of runs that went
on side by side mean little, so the headline is in calibrated seconds: let the calibration, which comes last, have the
machine for itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from headstart.experiment.race import race_recipe
from headstart.race import judge
from headstart.recipe.load import load_recipe
from headstart.records import ArmResult, RaceRecord, RunRecord, read_record, write_record
from headstart.report import verdict_sentence, write_report
from headstart.report.tuning import spent
from results_file import RESULTS, Figure, command_line, new_result, write_result


def figures_of(race: RaceRecord) -> dict[str, Figure]:
    """The primary arm's figures on the headline clock by their plain names, and all by arm and clock."""
    figures: dict[str, Figure] = {}
    for result in race.results:
        for name, figure in _result_figures(race, result).items():
            figures[f"{name}.{result.arm}.{result.clock}"] = figure
            if result.arm == race.primary and result.clock == race.headline_clock:
                figures[name] = figure
    for budget in race.budgets[1:-1]:
        figures |= _had_it_ended_at(race, budget)
    for arm in race.arms:
        for budget in race.budgets:
            runs = [run for run in race.runs if run.arm == arm.name and run.budget == budget]
            if runs:
                figures[f"quality.{arm.name}.{budget:g}-{race.budget_unit}"] = _mean_quality(runs)
    figures |= _tuning_figures(race)
    for teacher in (teacher for run in race.runs for teacher in run.teachers):
        if teacher.quality is not None:
            figures[f"teacher_quality.{teacher.name}"] = Figure(value=teacher.quality)
    return dict(sorted(figures.items()))


def _result_figures(race: RaceRecord, result: ArmResult) -> dict[str, Figure]:
    seeds = len(race.seeds)
    figures: dict[str, Figure] = {}
    for name, estimate in (
        ("speedup_at_baseline_best", result.speedup),
        ("speedup_over_overlap", result.overlap_speedup),
        ("gain_at_equal_cost", result.gain),
    ):
        if estimate is not None:
            figures[name] = Figure(value=estimate.value, low=estimate.low, high=estimate.high, n=seeds)
    for name, value in (
        ("target_quality", result.target_quality),
        ("reference_budget", result.reference_budget),
        ("loaded_speedup", result.loaded_speedup),
        ("break_even_runs", result.break_even),
        ("more_seeds", result.more_seeds),
    ):
        if value is not None:
            figures[name] = Figure(value=value)
    return figures


def _tuning_figures(race: RaceRecord) -> dict[str, Figure]:
    """What tuning the arms took, and the numbers that they chose."""
    if race.tuning is None:
        return {}
    trials = race.tuning.trials
    figures = {
        "tuning_runs": Figure(value=len(trials)),
        "tuning_seconds": Figure(value=spent(trials, "seconds"), unit="s"),
        "tuning_flops": Figure(value=spent(trials, "flops"), unit="FLOPs"),
    }
    for arm, values in race.tuning.chosen.items():
        for key, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                figures[f"chosen.{arm}.{key}"] = Figure(value=value)
    return figures


def _had_it_ended_at(race: RaceRecord, budget: float) -> dict[str, Figure]:
    """The speed-ups of the race without its larger budgets: what it would say to who cannot train longer."""
    runs = [run for run in race.runs if run.budget <= budget]
    shorter = judge(race.model_copy(update={"runs": runs, "results": []}))
    return {
        f"{name}.{result.arm}.{result.clock}.to-{budget:g}-{race.budget_unit}": figure
        for result in shorter.results
        for name, figure in _result_figures(race, result).items()
        if name in ("speedup_at_baseline_best", "gain_at_equal_cost", "target_quality")
    }


def _mean_quality(runs: list[RunRecord]) -> Figure:
    return Figure(value=sum(run.quality for run in runs) / len(runs), unit=runs[0].metric, n=len(runs))


def main() -> None:
    """Race, draw the report, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--name", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--judge", action="store_true", help="judge the race in --out as it is; run nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    out = arguments.out or Path("runs") / arguments.name
    command = command_line(__file__, sys.argv[1:])
    begin = time.perf_counter()
    if arguments.judge:
        race = judge(read_record(RaceRecord, out / "race.json"))
        command = race.command
        write_record(race, out / "race.json")
    else:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
        race = race_recipe(recipe, out, command=command, workers=arguments.workers)
    write_report(race, out)
    print(verdict_sentence(race))
    # What training took, also in an earlier start that had finished its runs.
    trained = sum(run.seconds for run in race.runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = new_result(
        arguments.name,
        figures_of(race),
        command=command,
        device=device,
        seconds=max(trained, time.perf_counter() - begin),
        packages=["accelerate", "datasets"],
    )
    print(f"wrote {write_result(result, arguments.results)}")


if __name__ == "__main__":
    main()
