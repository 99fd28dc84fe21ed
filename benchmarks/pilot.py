"""Does a pilot tell what the race then says? Forecasts beside recorded races: pilot.json.

Usage: python benchmarks/pilot.py [--only NAME ...] [--teachers FOLDER] [--work runs/pilot] [--out FOLDER]

For each of some recipes whose race is in benchmarks/results, `headstart plan --pilot` in a process of its own, on seeds
that no race had: two runs of each kind, at half of the race's shortest budget or below. `pilot.*` is the speed-up that
it saw at its own length, with its interval, and `resolved.*` whether it would have said so; `race.*` is that of the
race at its baseline's best, which is another question: a pilot answers only whether to race. Teachers are those that
the race has trained, in --teachers (FOLDER/RECIPE/teachers). Finished runs are not done again. Some minutes a recipe
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from headstart.errors import HeadstartError
from headstart.train.costs.pilot import PilotForecast
from headstart.train.costs.planned import PlanRecord
from results_file import RESULTS, Figure, Result, command_line, finish

ROOT = Path(__file__).resolve().parent.parent


class Case(NamedTuple):
    """A recipe and its race.

    Attributes:
        overrides: That make the recipe the raced arm.
        fraction: Of the shortest budget.
        result: The race's file in benchmarks/results.
        figure: Its speed-up there.
    """

    overrides: tuple[str, ...]
    fraction: float
    result: str
    figure: str


CASES: Mapping[str, Case] = {
    "demo": Case(("race=null", "train.steps=240"), 0.5, "demo", "speedup.distill.calibrated"),
    "llama-wikipedia": Case(
        ("distill.stop=1.0",), 0.5, "race-clm-wikipedia", "speedup_at_baseline_best.whole.calibrated"
    ),
}


def forecast(name: str, case: Case, teachers: Path, out: Path) -> PilotForecast:
    """What `headstart plan --pilot` says, in a process of its own.

    Raises:
        HeadstartError: It says nothing.
    """
    recipe = ROOT / "recipes" / f"{name}.yaml"
    options = ["--pilot", f"{case.fraction:g}", "--teachers", str(teachers), "--out", str(out), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "plan", str(recipe), *case.overrides, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HeadstartError(f"{name}: headstart plan --pilot failed:\n{done.stderr}")
    found = PlanRecord.model_validate_json(done.stdout).pilot
    if found is None:
        raise HeadstartError(f"{name}: headstart plan --pilot gave no forecast")
    return found


def figures_of(name: str, found: PilotForecast, raced: Figure | None) -> dict[str, Figure]:
    """Both speed-ups, where there are such, and whether the pilot resolved its own."""
    figures = {f"resolved.{name}": Figure(value=float(found.verdict != "not resolved"), n=found.seeds)}
    figures[f"length.{name}"] = Figure(value=found.budget, unit=found.unit)
    if found.speedup is not None:
        speedup = found.speedup
        figures[f"pilot.{name}"] = Figure(value=speedup.value, low=speedup.low, high=speedup.high, n=found.seeds)
    if raced is not None:
        figures[f"race.{name}"] = raced
    return figures


def raced(case: Case, folder: Path = RESULTS) -> Figure | None:
    """What the race has said; None where it is not recorded, or has not said it."""
    path = folder / f"{case.result}.json"
    if not path.exists():
        return None
    return Result.model_validate_json(path.read_text(encoding="utf-8")).figures.get(case.figure)


def main(arguments: Sequence[str]) -> None:
    """Run the pilots, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="these recipes")
    parser.add_argument("--teachers", type=Path, default=Path("runs"), help="where the races' folders are")
    parser.add_argument("--work", type=Path, default=Path("runs/pilot"), help="folder of the pilots' runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for pilot.json")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    figures: dict[str, Figure] = {}
    for name in options.only:
        case = CASES[name]
        found = forecast(name, case, options.teachers / name / "teachers", options.work / name)
        figures |= figures_of(name, found, raced(case))
        print(f"{name:18s} {found.verdict}; {found.speedup}; the race: {raced(case)}", flush=True)
    command, device = command_line(__file__, arguments), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    finish("pilot", figures, command=command, device=device, begin=begin, folder=options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
