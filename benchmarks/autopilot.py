"""Does `distill: auto` ever lose, and how near does it come to the best fixed settings? autopilot.json.

Usage: python benchmarks/autopilot.py [--quick] [--only NAME ...] [--work runs/autopilot] [--workers 2] [--out FOLDER]

Three races: a ResNet-8 on 10 000 and on 500 pictures of Fashion-MNIST, and a small ModernBERT on text. Each is one
baseline against teachers of very different worth, and with each teacher against `distill: auto` and a few fixed
settings: 12 tasks. The text is the folder wikipedia-en-2015-small of $HEADSTART_DATA, or what --text names. The figures
are speed-ups over all qualities that both curves reach, with 95 % intervals, in calibrated seconds and in FLOPs; the
look at the teachers is on both clocks. `quality` is the mean held-out quality at the end.

`worst` is the smallest of automatic's speed-ups. `median_of_best` is the median over tasks of automatic's speed-up over
that of the best fixed setting, not distilling among them: chosen afterwards from the same runs, and so flattered.
`gain_of_best` is, over the tasks in which a fixed setting gains at least 5 %, the median of what automatic gains over
what the best of them does.
`ranking.images.gain` and `ranking.images.grace` are the rank correlations of what `headstart.probe` says of the eight
teachers of the first race, from test pictures, with what its fixed setting `half` gained with each; without those with
which it shared no quality with the baseline. Finished runs are not done again. About 100 minutes on two quiet cores;
`--quick` takes two and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console

from headstart.commands.console import Display
from headstart.experiment.race import race_recipe
from headstart.recipe.load import parse_recipe, varied
from headstart.recipe.recipe import Recipe
from headstart.records import Estimate, RaceRecord, RunRecord
from headstart.tasks.random import random_below
from headstart.teachers.find import RECORD
from headstart.train.costs.known_before import known_before
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.state.run_folder import RunFolder
from results_file import RESULTS, Figure, command_line, finish
from teacher_ranking import rankings_of

ROOT = Path(__file__).resolve().parent.parent
OLD_MODEL = ROOT / "examples" / "old-model"
CLOCKS = ("calibrated", "flops")
AUTO = "auto"
FIXED: dict[str, dict[str, Any]] = {
    "half": {},
    "whole": {"stop": 1.0},
    "late": {"start": 0.25, "stop": 1.0},
}
_GAINED = 1.05  # from which on a setting counts as one that gains
SHUFFLED, RANDOM = "shuffled labels", "random weights"


@dataclass(frozen=True)
class Field:
    """A student and its data.

    Attributes:
        name: Its name.
        recipe: What is trained.
        budgets: In steps; the baseline has the last one more.
        teachers: By name: a run folder, overrides of the recipe, or one of the two that have learnt nothing.
        fixed: The fixed settings that each teacher is tried with.
        distill: What these say beside.
    """

    name: str
    recipe: dict[str, Any]
    budgets: tuple[int, ...]
    teachers: Mapping[str, Path | str | dict[str, Any]]
    fixed: Mapping[str, Sequence[str]]
    distill: dict[str, Any]


_IMAGES: dict[str, Any] = {
    "model": {"name": "resnet8", "width": 8},
    "data": {"name": "fashion-mnist", "augment": {"flip": True}, "holdout": 50_000},
    # Of 0.1, 0.2, 0.4, 0.8 and 1.6 the best one for the baseline, in 160 steps.
    "train": {"steps": 320, "lr": 0.8, "clip_norm": 1.0, "weight_decay": 5e-4, "precision": "fp32", "log_every": 20},
}
_TEXT: dict[str, Any] = {
    "task": "mlm",
    "model": {"name": "modernbert", "size": "tiny"},
    "data": {
        "name": "wikipedia-en-2015-small", "vocab_size": 4096, "length": 64, "evaluate_sequences": 512, "tuning": 10,
    },
    "train": {
        "steps": 400, "batch_size": 32, "optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "schedule": "linear",
        "warmup": 0.1, "clip_norm": 1.0, "precision": "fp32", "log_every": 20,
    },
}  # fmt: skip

IMAGES = Field(
    "images",
    _IMAGES,
    (160, 320, 640, 1280),
    {
        "good": OLD_MODEL,
        "equal": {"train.steps": 320},
        "middling": {"train.steps": 150},
        "poor": {"train.steps": 50},
        "tiny": {"model.width": 3, "train.steps": 640},
        "huge": {"model.name": "resnet14", "model.width": 16, "train.steps": 320},
        "shuffled": SHUFFLED,
        "random": RANDOM,
    },
    {
        **dict.fromkeys(("good", "equal", "tiny", "huge"), ("half", "late")),
        **dict.fromkeys(("middling", "poor", "shuffled", "random"), ("half",)),
    },
    {},
)
FEW = Field(
    "few-images",
    {**_IMAGES, "data": {**_IMAGES["data"], "holdout": 59_500}, "train": {**_IMAGES["train"], "lr": 0.4}},
    (60, 120, 240, 480),
    {"good": OLD_MODEL},
    {"good": ("half", "whole", "late")},
    {},
)
TEXT = Field(
    "text",
    _TEXT,
    (200, 400, 800),
    {"good": {"train.steps": 1800}, "equal": {"train.steps": 400}, "poor": {"train.steps": 100}},
    {"good": ("half", "whole"), "equal": ("half",), "poor": ("half",)},
    {"temperature": 1.0},
)
FIELDS = (IMAGES, FEW, TEXT)


def quick(field: Field) -> Field:
    """The same in a minute, of which nothing can be learnt."""

    def shorter(teacher: Path | str | dict[str, Any]) -> Path | str | dict[str, Any]:
        return {**teacher, "train.steps": 8} if isinstance(teacher, dict) else teacher

    teachers = {name: shorter(teacher) for name, teacher in field.teachers.items()}
    return replace(field, budgets=(2, 4, 6), teachers=teachers, fixed={name: ("half",) for name in teachers})


def race_of(field: Field, places: Mapping[str, Path], seeds: int, pairs: int) -> Recipe:
    """The race of a field, its teachers being trained."""
    arms: dict[str, Any] = {"baseline": {"set": {"distill": None}}}
    own = list(field.budgets[:-1])
    for name, place in places.items():
        teachers = {"distill.teachers": [str(place)]}
        arms[f"{name}-{AUTO}"] = {"set": {**teachers, "distill": AUTO}, "budgets": own}
        for setting in field.fixed[name]:
            options = {f"distill.{key}": value for key, value in {**field.distill, **FIXED[setting]}.items()}
            arms[f"{name}-{setting}"] = {"set": {**teachers, **options}, "budgets": own}
    race = {
        "budgets": list(field.budgets),
        "seeds": list(range(seeds)),
        "primary": f"{next(iter(places))}-{AUTO}",
        "arms": arms,
        "calibration_pairs": pairs,
    }
    return parse_recipe({**field.recipe, "name": field.name, "race": race}, field.name)


def teachers_of(field: Field, folder: Path, display: Display) -> dict[str, Path]:
    """The run folder of each teacher, trained if it is not there."""
    plain = parse_recipe({**field.recipe, "name": field.name}, field.name)
    places: dict[str, Path] = {}
    for name, teacher in field.teachers.items():
        places[name] = teacher if isinstance(teacher, Path) else folder / name
        display.training(f"{field.name}: teacher {name}")
        if isinstance(teacher, dict):
            train(varied(plain, {**teacher, "train.seed": 100}, name), places[name], progress=display.step)
        elif isinstance(teacher, str):
            _untaught(varied(plain, {"train.seed": 100}, name), places[name], shuffled=teacher == SHUFFLED)
    return places


def _untaught(recipe: Recipe, folder: Path, *, shuffled: bool) -> None:
    """A run folder of a model that knows nothing: trained on labels that say nothing, or not at all."""
    if (folder / RECORD).exists():
        return
    session = Session(recipe)
    costs: dict[str, Any] = {}
    if shuffled:
        costs = known_before(session, {}).fields()
        drawn = session.task.batch

        def batch(step: int, size: int, *, part: int = 0, parts: int = 1) -> Any:
            found = drawn(step, size, part=part, parts=parts)
            labels = random_below(session.task.num_classes, found.samples, seed=1, epoch=0, stream=0)
            return replace(found, labels=labels.to(found.labels.device))

        session.task.batch = batch  # type: ignore[method-assign]
        for step in range(session.total_steps):
            session.train_step(step)
    place = RunFolder(folder, session.recipe)
    place.save_weights(session.result, session.task.describe())
    place.finish(RunRecord(quality=session.evaluate().quality, seconds=0.0, **costs))


def figures_of(record: RaceRecord, field: Field) -> dict[str, Figure]:
    """The speed-up of each arm over the baseline, on both clocks; none of arms that share no quality with it."""
    found: dict[str, Figure] = {}
    for result in record.results:
        if result.clock in CLOCKS and result.overlap_speedup is not None:
            name = f"speedup.{field.name}.{result.arm.replace('-', '.')}.{result.clock}"
            found[name] = _figure(result.overlap_speedup, len(record.seeds))
    return found


def qualities_of(record: RaceRecord, field: Field) -> dict[str, Figure]:
    """Of each arm at each budget, the mean of the seeds."""
    found: dict[tuple[str, float], list[float]] = {}
    for run in record.runs:
        found.setdefault((run.arm.replace("-", "."), run.budget), []).append(run.quality)
    return {
        f"quality.{field.name}.{arm}.{budget:g}-steps": Figure(value=fmean(values), n=len(values))
        for (arm, budget), values in found.items()
    }


def ranked(
    recipe: Recipe, field: Field, places: Mapping[str, Path], figures: Mapping[str, Figure]
) -> dict[str, Figure]:
    """How well two looks at the teachers have told what `half` gains with each."""
    names = {name: f"speedup.{field.name}.{name}.half.{CLOCKS[0]}" for name in places}
    shown = {name: figures[key].value for name, key in names.items() if key in figures}
    return {f"ranking.{field.name}.{key}": one for key, one in rankings_of(recipe, places, shown).items()}


def summed_up(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """The worst of automatic's speed-ups, and how near it comes to the best fixed setting, on each clock."""
    found: dict[str, Figure] = {}
    for clock in CLOCKS:
        tasks = {
            name.removesuffix(f".{AUTO}.{clock}"): figure
            for name, figure in figures.items()
            if name.endswith(f".{AUTO}.{clock}")
        }
        if not tasks:
            continue
        found[f"worst.{clock}"] = min(tasks.values(), key=lambda figure: figure.value)
        shares = [figure.value / _best(figures, task, clock) for task, figure in tasks.items()]
        found[f"median_of_best.{clock}"] = Figure(value=median(shares), n=len(shares))
        best = {task: _best(figures, task, clock) for task in tasks}
        gains = [(tasks[task].value - 1) / (value - 1) for task, value in best.items() if value >= _GAINED]
        if gains:
            found[f"gain_of_best.{clock}"] = Figure(value=median(gains), n=len(gains))
    return found


def _best(figures: Mapping[str, Figure], task: str, clock: str) -> float:
    """Of the fixed settings of a task; not to distil is one of them."""
    fixed = [figures.get(f"{task}.{setting}.{clock}") for setting in FIXED]
    return max([1.0, *(figure.value for figure in fixed if figure is not None)])


def _figure(estimate: Estimate, seeds: int) -> Figure:
    return Figure(value=estimate.value, low=estimate.low, high=estimate.high, n=seeds)


def main(arguments: Sequence[str]) -> None:
    """Race, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="in two minutes; the numbers mean nothing")
    parser.add_argument("--work", type=Path, default=Path("runs/autopilot"), help="folder of the races")
    parser.add_argument("--only", nargs="+", choices=[field.name for field in FIELDS], help="these races")
    parser.add_argument("--text", default=_TEXT["data"]["name"], help="the text, as data.name of a recipe")
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for autopilot.json")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    figures: dict[str, Figure] = {}
    for field in map(quick, FIELDS) if options.quick else FIELDS:
        if options.only and field.name not in options.only:
            continue
        if field.name == TEXT.name:
            field = replace(field, recipe={**field.recipe, "data": {**field.recipe["data"], "name": options.text}})
        folder = options.work / field.name
        with Display(Console(stderr=True)) as display:
            places = teachers_of(field, folder / "teachers-of-the-race", display)
            recipe = race_of(field, places, seeds=1 if options.quick else 3, pairs=1 if options.quick else 30)
            record = race_recipe(recipe, folder, watcher=display, workers=options.workers)
        found = figures_of(record, field)
        if field.name == IMAGES.name and not options.quick:
            figures |= ranked(recipe, field, places, found)
        figures |= found | qualities_of(record, field)
    for name, figure in figures.items():
        print(f"{name:48s} {figure.value:.3f} ({figure.low} to {figure.high})")
    finish(
        "autopilot",
        {**summed_up(figures), **figures},
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        begin=begin,
        folder=options.out,
        packages=["transformers"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
