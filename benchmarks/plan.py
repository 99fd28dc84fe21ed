"""Is a plan right? Its overhead and memory against those of runs: plan.json.

Usage: python benchmarks/plan.py [--steps 100] [--only NAME ...] [--work runs/plan] [--out FOLDER]

For each of some recipes of the repository, with teachers of fresh weights, which take as long as trained ones:
`headstart plan` in a process of its own; then, in this one, two real runs of so many steps, the recipe's and the same
without distillation, a step of one beside the step of the same number of the other, in turn (ABBA): windows open and
close there, and teachers are let go. `overhead.*` is the time of the one over the other, predicted and measured, and
`overhead_error.*` how far the prediction is off. `memory.*` is the most that `headstart train` of the recipe occupied,
in a process of its own, beside what the plan said. Finished recipes are not measured again. Times mean something only
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from headstart.errors import HeadstartError
from headstart.experiment.planning.stand_ins import stand_in
from headstart.experiment.train_teachers import teacher_recipes
from headstart.files import write_atomically
from headstart.recipe.load import dump_recipe, load_recipe, varied
from headstart.recipe.recipe import Recipe
from headstart.train.costs.clock import timed
from headstart.train.costs.planned import PlanRecord
from headstart.train.session import Session
from results_file import RESULTS, Figure, command_line, finish
from step_times import no_garbage_collection

ROOT = Path(__file__).resolve().parent.parent
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": ("demo", {}),
    "fashion-mnist": ("fashion-mnist", {"model.width": 8, "teachers.resnet14.model.width": 8}),
    "cifar10": ("cifar10", {"data.name": "cifar10-jpeg75", "model.width": 8}),
    "mlm": ("modernbert-wikipedia", {}),
    "clm": ("llama-wikipedia", {"distill.stop": 1.0}),
    "clm-small-teacher": ("llama-wikipedia", {"distill.teachers": ["half-size"], "distill.stop": 0.17}),
    "init": ("init-text", {"init": {"from": "deeper"}}),
}
QUICK = {"train.batch_size": 8}
WARM_UP = 3  # steps, which do not count
_RESAMPLED = 2000
_HIGHEST = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
_BLOCK = 2  # pairs of steps: one ABBA


class Outcome(NamedTuple):
    """Of one recipe: predicted and measured ratio of times, with its interval, and predicted and measured bytes."""

    predicted: float
    measured: tuple[float, float, float]
    told: int | None
    occupied: int
    pairs: int

    @property
    def overhead_error(self) -> float:
        """Relative."""
        return self.predicted / self.measured[0] - 1

    @property
    def memory_error(self) -> float | None:
        """Relative; None where the machine does not tell."""
        return None if self.told is None else self.told / self.occupied - 1


def shortened(name: str, steps: int, folder: Path, *, quick: bool = False) -> Recipe:
    """A recipe with so many steps, whose teachers lie in a folder."""
    file, changes = RECIPES[name]
    read = load_recipe(ROOT / "recipes" / f"{file}.yaml").model_copy(update={"race": None})
    run: dict[str, Any] = {"steps": steps, "epochs": None, "trackers": [], "precision": "fp32"}
    length = {f"train.{key}": value for key, value in run.items()}
    recipe = varied(read, {**changes, **length, **(QUICK if quick else {})}, name)
    places: dict[str, str] = {}
    whole = varied(read, changes, name)  # teachers say themselves for how long they are trained, in steps or epochs
    for spec, made in teacher_recipes(whole, [whole]).items():
        places[spec] = str(folder / spec)
        if not (folder / spec / "model.safetensors").exists():
            stand_in(made, folder / spec)
    assert recipe.distill is not None
    moved: dict[str, Any] = {"teachers": {}}
    entries = recipe.distill.model_dump(mode="json")["teachers"]
    moved["distill.teachers"] = [_moved(entry, places) for entry in entries]
    if recipe.init is not None:
        moved["init.from"] = places.get(recipe.init.source, recipe.init.source)
    return varied(recipe, moved, name)


def _moved(entry: Any, places: dict[str, str]) -> Any:
    if isinstance(entry, str):
        found = places.get(entry, entry)
        return found if Path(found).is_absolute() else str(ROOT / found)
    spec = places.get(entry["spec"], entry["spec"])
    return {**entry, "spec": spec if Path(spec).is_absolute() else str(ROOT / spec)}


def planned(path: Path, seconds: float) -> PlanRecord:
    """What `headstart plan` says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "plan", str(path), "--seconds", str(seconds), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HeadstartError(f"{path}: headstart plan failed:\n{done.stderr}")
    return PlanRecord.model_validate_json(done.stdout)


def occupied(path: Path, out: Path) -> int:
    """The most memory that `headstart train` occupies, in bytes (Linux counts in kB).

    Asked of a process in between that is small itself: what a process is said to have occupied at most includes what
    its parent did when it was started.
    """
    command = [sys.executable, "-m", "headstart", "train", str(path), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", _HIGHEST, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise HeadstartError(f"{path}: headstart train failed with code {done.returncode}")
    return int(done.stdout) * 1024


def run_beside(recipe: Recipe, steps: int) -> list[tuple[float, float]]:
    """Seconds of each step of a run without distillation, and of the recipe's, made one beside the other."""
    plain = Session(recipe.model_copy(update={"distill": None}), initialise=False)
    taught = Session(recipe, initialise=False)
    device, pairs = plain.device, []
    with no_garbage_collection():
        for session in (plain, Session(recipe, initialise=False)):  # a window that has closed does not open again
            for step in range(WARM_UP):
                session.train_step(step)
        for step in range(steps):
            order = (plain, taught) if step % 2 == 0 else (taught, plain)
            seconds = {}
            for session in order:
                seconds[id(session)] = timed(lambda run=session: run.train_step(step), device)  # type: ignore[misc]  # noqa: B023
            pairs.append((seconds[id(plain)], seconds[id(taught)]))
    return pairs


def ratio_of_sums(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The time of all steps of the one run over that of the other, and its 95 % interval.

    By a bootstrap of blocks inside each tenth of the run, as a window makes its parts different.

    Example:
        >>> ratio_of_sums([(1.0, 2.0)] * 50)
        (2.0, 2.0, 2.0)
    """
    values = np.array(pairs)
    draws, generator = np.zeros((_RESAMPLED, 2)), np.random.default_rng(0)
    for part in np.array_split(values, max(1, min(10, len(values) // 10))):
        size = min(_BLOCK, len(part))
        count = -(-len(part) // size)
        begins = generator.integers(0, len(part) - size + 1, (_RESAMPLED, count))
        places = (begins[..., None] + np.arange(size)).reshape(_RESAMPLED, -1)[:, : len(part)]
        draws += part[places].sum(axis=1)
    low, high = np.percentile(draws[:, 1] / draws[:, 0], [2.5, 97.5])
    plain, taught = values.sum(axis=0)
    return float(taught / plain), float(low), float(high)


def measure(name: str, options: argparse.Namespace) -> Outcome:
    """One recipe; what was measured before is read."""
    folder = options.work / name
    kept = folder / "outcome.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        return Outcome(**{**found, "measured": tuple(found["measured"])})
    recipe = shortened(name, options.steps, (folder / "teachers").absolute(), quick=options.quick)
    path = folder / "recipe.yaml"
    write_atomically(path, dump_recipe(recipe).encode())
    plan = planned(path, 2.0 if options.quick else options.seconds)
    # Without what comes before the first step, which `headstart plan` tells apart.
    own = next(way for way in plan.ways if way.own)
    before = next((way.seconds - plan.ways[0].seconds for way in plan.ways if way.kind == "init"), 0.0)
    memory = occupied(path, folder / "run")
    pairs = run_beside(recipe, options.steps)
    outcome = Outcome(
        predicted=(own.seconds - before) / plan.ways[0].seconds,
        measured=ratio_of_sums(pairs),
        told=plan.memory.host_peak,
        occupied=memory,
        pairs=len(pairs),
    )
    write_atomically(kept, json.dumps(outcome._asdict()).encode())
    return outcome


def figures_of(outcomes: dict[str, Outcome]) -> dict[str, Figure]:
    """The figures of all recipes, and the worst."""
    figures = {}
    for name, outcome in outcomes.items():
        value, low, high = outcome.measured
        figures[f"overhead.{name}.measured"] = Figure(value=value, low=low, high=high, n=outcome.pairs)
        figures[f"overhead.{name}.predicted"] = Figure(value=outcome.predicted)
        figures[f"overhead_error.{name}"] = Figure(value=outcome.overhead_error)
        figures[f"memory.{name}.measured"] = Figure(value=outcome.occupied / 1e6, unit="MB")
        if outcome.told is not None:
            figures[f"memory.{name}.predicted"] = Figure(value=outcome.told / 1e6, unit="MB")
            figures[f"memory_error.{name}"] = Figure(value=outcome.told / outcome.occupied - 1)
    worst = max(abs(outcome.overhead_error) for outcome in outcomes.values())
    figures["worst_overhead_error"] = Figure(value=worst, n=len(outcomes))
    errors = [abs(error) for outcome in outcomes.values() if (error := outcome.memory_error) is not None]
    if errors:
        figures["worst_memory_error"] = Figure(value=max(errors), n=len(errors))
    return figures


def main(arguments: Sequence[str]) -> None:
    """Plan, run, compare, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="of each run")
    parser.add_argument("--seconds", type=float, default=25.0, help="that a plan times steps")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="these recipes")
    parser.add_argument("--quick", action="store_true", help="tiny batches and few rounds, only for a trial")
    parser.add_argument("--work", type=Path, default=Path("runs/plan"), help="folder of runs and of what was measured")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for plan.json")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    outcomes = {}
    for name in options.only:
        outcomes[name] = outcome = measure(name, options)
        value, low, high = outcome.measured
        print(
            f"{name:18s} {outcome.predicted:.3f} predicted, {value:.3f} ({low:.3f} to {high:.3f}) measured; memory "
            f"{(outcome.told or 0) / 1e6:.0f} MB predicted, {outcome.occupied / 1e6:.0f} measured",
            flush=True,
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    command = command_line(__file__, arguments)
    finish("plan", figures_of(outcomes), command=command, device=device, begin=begin, folder=options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
