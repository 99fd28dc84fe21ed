"""Scores the final checkpoints of a race of `mlm` recipes on GLUE: the figures behind glue.json.

Usage: python benchmarks/glue.py RACE_FOLDER [--budget B] [--arms baseline,distill@8] [--tasks sst2,stsb] [--seeds 2]
       [--epochs 3] [--lr-scale 10] [--workers 2] [--name glue]

Every arm's final checkpoints, those of its largest budget unless one is named (for all, or of one arm as ARM@B), are
fine-tuned by the same protocol (docs/glue.md). Its own seeds are averaged first; the intervals are over the seeds of
pretraining, and differences from the baseline are taken seed by seed. Fine-tunings that are done lie in the run
folders, under the name of the result, so that it can be interrupted and started again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

import torch
from scipy import stats

from headstart.experiment.worker_processes import Workers
from headstart.race import run_folder
from headstart.records import RaceRecord, RunRecord, read_record
from headstart.tasks.glue import GlueOptions, GlueRecord, TaskScore, glue_score
from results_file import RESULTS, Figure, command_line, new_result, write_result

Scores = Mapping[str, Mapping[int, GlueRecord]]  # by arm and seed of pretraining


def figures_of(scores: Scores, baseline: str) -> dict[str, Figure]:
    """Means of all arms, and their differences from the baseline, by what is measured (`glue`, `sst2`, `mrpc.f1`)."""
    figures = {}
    for arm, by_seed in scores.items():
        values = {seed: _values(record) for seed, record in by_seed.items()}
        paired = {seed: _values(record) for seed, record in scores[baseline].items() if seed in values}
        for name in next(iter(values.values())):
            figures[f"{name}.{arm}"] = t_figure([value[name] for value in values.values()])
            if arm != baseline and paired:
                figures[f"{name}.{arm}-minus-{baseline}"] = t_figure(
                    [values[seed][name] - value[name] for seed, value in paired.items()]
                )
    figures["tasks"] = Figure(value=len(next(iter(scores[baseline].values())).tasks), unit="of 8")
    return dict(sorted(figures.items()))


def t_figure(values: Sequence[float]) -> Figure:
    """The mean, with the 95 % interval of Student's t; without one for a single value."""
    middle, n = mean(values), len(values)
    if n == 1:
        return Figure(value=middle, n=1)
    reach = float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
    return Figure(value=middle, low=middle - reach, high=middle + reach, n=n)


def chosen_runs(race: RaceRecord, arms: Sequence[str], budget: float | None) -> list[RunRecord]:
    """The finished runs of some arms, as `ARM` or `ARM@BUDGET` (none named: all), and of the baseline.

    At the budget that an arm is named with, else at `budget`, else at the largest that it has.
    """
    asked = {race.baseline: budget} | dict(_asked(name, budget) for name in arms or [arm.name for arm in race.arms])
    if unknown := sorted(set(asked) - {arm.name for arm in race.arms}):
        raise SystemExit(f"no such arm: {', '.join(unknown)}; there are {', '.join(arm.name for arm in race.arms)}")
    largest = {arm: max((run.budget for run in race.runs if run.arm == arm), default=None) for arm in asked}
    chosen = {arm: largest[arm] if wanted is None else wanted for arm, wanted in asked.items()}
    runs = [run for run in race.runs if run.arm in chosen and run.budget == chosen[run.arm]]
    if without := sorted(set(asked) - {run.arm for run in runs}):
        told = [arm if asked[arm] is None else f"{arm} at budget {asked[arm]:g}" for arm in without]
        raise SystemExit(f"no finished runs: {', '.join(told)}; name other arms or another budget")
    return runs


def _asked(name: str, budget: float | None) -> tuple[str, float | None]:
    arm, _, own = name.partition("@")
    try:
        return arm, float(own) if own else budget
    except ValueError:
        raise SystemExit(f"{name}: give a number after the @, such as {arm}@1250") from None


def _values(record: GlueRecord) -> dict[str, float]:
    """Scores of tasks, and metrics where a task has several."""
    several = {name: value for task in record.tasks if len(task.metrics) > 1 for name, value in _metrics(task)}
    return {"glue": record.score, **{task.task: task.score for task in record.tasks}, **several}


def _metrics(task: TaskScore) -> list[tuple[str, float]]:
    return [(f"{task.task}.{metric}", value) for metric, value in task.metrics.items()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("race", type=Path)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--arms", default="")
    parser.add_argument("--tasks", default="")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--lr-scale", type=float, default=1.0)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--name", default="glue")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> None:
    """Score what has not been scored yet; print each run as it ends, and write the results."""
    arguments = _arguments()
    race = read_record(RaceRecord, arguments.race / "race.json")
    runs = chosen_runs(race, _names(arguments.arms), arguments.budget)
    options = GlueOptions(
        tasks=_names(arguments.tasks) or None,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        lr_scale=arguments.lr_scale,
        precision=arguments.precision,
    )
    with Workers(arguments.workers) as workers, ThreadPoolExecutor(arguments.workers) as threads:

        def score(run: RunRecord) -> GlueRecord:
            folder = run_folder(arguments.race, run.arm, run.budget, run.seed)
            record = workers.call(glue_score, folder, options, folder=folder / arguments.name)
            print(f"{run.arm:20s} seed {run.seed}  {record.title}: {record.score:.4f}", flush=True)
            return record

        records = list(threads.map(score, runs))
    scores: dict[str, dict[int, GlueRecord]] = {}
    for run, record in zip(runs, records, strict=True):
        scores.setdefault(run.arm, {})[run.seed] = record
    budgets = {f"budget.{run.arm}": Figure(value=run.budget, unit=race.budget_unit) for run in runs}
    result = new_result(
        arguments.name,
        {**budgets, **figures_of(scores, race.baseline)},
        command=command_line(__file__, sys.argv[1:]),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        seconds=sum(seed.seconds for record in records for task in record.tasks for seed in task.seeds),
        packages=["transformers", "tokenizers", "scikit-learn", "scipy"],
    )
    print(f"wrote {write_result(result, arguments.results)}")


if __name__ == "__main__":
    main()
