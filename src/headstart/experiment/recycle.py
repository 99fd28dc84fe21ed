"""Earlier runs of a sequence as teachers: those of a search, or of a training that is repeated now and then.

Source: "Knowledge Distillation for Efficient Sequences of Training Runs" (arXiv 2303.06480): earlier runs of a sequence
teach the later ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from headstart.errors import HeadstartError, RecipeError, TeacherError
from headstart.recipe.load import varied
from headstart.recipe.recipe import Recipe
from headstart.recipe.recorded import samples_seen
from headstart.records import Finite, Record, RunRecord, read_record, write_record
from headstart.tasks import Task
from headstart.teachers import find_teacher, load_teacher
from headstart.teachers.find import is_finished
from headstart.train.setup.build_task import build_task, check_teacher, student_side
from headstart.train.state.run_folder import RECIPE

RECYCLED = "recycled.json"
# Qualities that differ by less, relative to themselves, are taken as equal: docs/defaults.md, differences of two tenths
# of a percent between single runs are noise.
NOISE = 0.002
_TOLD = 20  # runs, in a message


class Recycled(Record):
    """An earlier run that teaches: its folder, its quality, and what training it took a sample, in FLOPs (`cost`).

    A forward is about a third of that, so that runs which cost less are cheaper to ask.
    """

    spec: str
    quality: Finite
    metric: str
    cost: Finite | None = None


class RecycleRecord(Record):
    """What was chosen from a folder, and why not the others; kept in the run folder for when it is resumed.

    `fitting`: how many runs could have been chosen, as far as their records tell.
    """

    folder: str
    chosen: list[Recycled] = Field(min_length=1)
    fitting: int
    passed_over: dict[str, str] = Field(default={})

    @property
    def told(self) -> str:
        """In a sentence."""
        names = ", ".join(f"{run.spec} ({run.metric} {run.quality:.4f})" for run in self.chosen)
        return f"recycled as teachers: {names}; the best of {self.fitting} runs in {self.folder} that fit"


def recycled_recipe(recipe: Recipe, folder: Path, out: Path, *, count: int = 1) -> tuple[Recipe, RecycleRecord]:
    """The recipe with the best of earlier runs as its teachers, in place of those that it names.

    A run fits if it has finished, was trained on the same task and data, knows the same classes or has the same
    tokenizer (as any teacher), has not trained on what the recipe is judged by, and was itself judged by the same. The
    best has the best recorded quality; of those that differ from it by noise alone (`NOISE`), the one that is cheapest
    to ask. One is the default: in the trials of docs/defaults.md the better teacher alone taught more than with a
    weaker one beside it.

    Args:
        recipe: Its `distill` section says how to distil; without one the defaults do.
        folder: Where the earlier runs are, at any depth.
        out: The run's own folder. What was chosen is written there, and taken from there when the run is resumed.
        count: How many teachers, at most.

    Raises:
        RecipeError: The recipe reads cached targets, or its settings do not go with so many teachers.
        TeacherError: No run fits; says of each why not.
        HeadstartError: The run in `out` was taught from another folder.
    """
    if recipe.distill is not None and recipe.distill.cache is not None:
        raise RecipeError(
            f"--recycle={folder}: distill.cache={recipe.distill.cache} has its teachers already; leave one of them out"
        )
    kept = out / RECYCLED
    if kept.exists():
        record = read_record(RecycleRecord, kept)
        if Path(record.folder) != folder:
            raise HeadstartError(
                f"{out}: its teachers were chosen from {record.folder}; go on with --recycle {record.folder}, or give "
                "another --out"
            )
    else:
        record = _chosen(recipe, folder, out, count)
    made = varied(recipe, {"distill.teachers": [run.spec for run in record.chosen]}, f"--recycle={folder}")
    if not kept.exists():
        write_record(record, kept)
    return made, record


def best_first(runs: Sequence[Recycled], *, higher_is_better: bool) -> list[Recycled]:
    """Runs by their worth: quality first, and of those that are as good as the best of the rest the cheapest.

    Example:
        >>> runs = [Recycled(spec=name, quality=quality, metric="accuracy", cost=cost)
        ...         for name, quality, cost in (("dear", 0.931, 9), ("cheap", 0.93, 1), ("poor", 0.6, 1))]
        >>> [run.spec for run in best_first(runs, higher_is_better=True)]
        ['cheap', 'dear', 'poor']
    """
    left, found = list(runs), []
    while left:
        best = (max if higher_is_better else min)(left, key=lambda run: run.quality)
        equals = [run for run in left if abs(run.quality - best.quality) <= NOISE * abs(best.quality)]
        known = [run for run in equals if run.cost is not None]
        cheapest = min(known, key=lambda run: (run.cost or 0.0, equals.index(run)), default=best)
        # Of equally dear ones the better.
        first = best if best.cost is not None and best.cost <= (cheapest.cost or 0.0) else cheapest
        left.remove(first)
        found.append(first)
    return found


def _chosen(recipe: Recipe, folder: Path, out: Path, count: int) -> RecycleRecord:
    if not folder.is_dir():
        raise TeacherError(f"--recycle={folder}: no such folder; give the one that holds the earlier runs")
    task = build_task(recipe, "cpu")
    passed: dict[str, str] = {}
    fitting: list[Recycled] = []
    for place in _runs(folder):
        if place.resolve() == out.resolve():
            continue
        found = _recorded(place, recipe, task)
        if isinstance(found, str):
            passed[str(place)] = found
        else:
            fitting.append(found)
    chosen: list[Recycled] = []
    for run in best_first(fitting, higher_is_better=task.higher_is_better):
        if len(chosen) < count:
            if reason := _unfit(run, task):
                passed[run.spec] = reason
            else:
                chosen.append(run)
    if not chosen:
        raise TeacherError(_nothing(folder, passed))
    left = len(fitting) - sum(run.spec in passed for run in fitting)
    return RecycleRecord(folder=str(folder), chosen=chosen, fitting=left, passed_over=passed)


def _nothing(folder: Path, passed: Mapping[str, str]) -> str:
    if not passed:
        return f"--recycle={folder}: holds no run folders; headstart train --out {folder}/one makes one"
    lines = [f"  {place}: {reason}" for place, reason in list(passed.items())[:_TOLD]]
    more = [f"  and {len(passed) - _TOLD} more"] if len(passed) > _TOLD else []
    return "\n".join([f"--recycle={folder}: no run there can teach this one:", *lines, *more])


def _runs(folder: Path) -> Iterator[Path]:
    """The run folders at any depth, finished or not, in the order of their names."""
    yield from sorted(path.parent for path in folder.rglob(RECIPE))


def _recorded(place: Path, recipe: Recipe, task: Task) -> Recycled | str:
    """What a run's record says of it, or why it does not fit by that."""
    if not is_finished(place):
        return "has not finished"
    try:
        found = find_teacher(place)
    except HeadstartError as error:
        return str(error)
    record, made = found.record, task.describe()
    if record is None or found.description.get("task") != made.get("task"):
        return f"its task is {found.description.get('task', 'not known')}, and here it is {made.get('task')}"
    data = record.settings.get("data", {})
    if reason := _other_data(data, recipe):
        return reason
    # What the task measures, also where a run was judged by its GLUE score.
    quality = record.quality if record.metric == task.metric else record.losses.get(task.metric)
    if quality is None:
        return f"it was judged by {record.metric}, and its {task.metric} is not known"
    return Recycled(spec=str(place), quality=quality, metric=task.metric, cost=_cost(record))


def _other_data(data: Mapping[str, Any], recipe: Recipe) -> str:
    """Why a run's data do not go with the recipe's; empty if they do."""
    own = recipe.data.model_dump(mode="json")
    if Path(str(data.get("name"))).name != Path(str(own["name"])).name:  # wherever it lies
        return f"it was trained on {data.get('name')}, and here it is {own['name']}"
    if data.get("subset") != own.get("subset"):
        return f"it was trained on the subset {data.get('subset')}, and here it is {own.get('subset')}"
    judged = ("evaluate", *(("holdout", "tuning", "documents") if _set_aside(own) else ()))
    for key in judged:
        if (data.get(key) or 0) != (own.get(key) or 0):
            why = "it was judged by others" if key == "evaluate" else "it may have trained on what is held out here"
            return f"{why}: its data.{key} was {data.get(key)}, and here it is {own.get(key)}"
    return ""


def _set_aside(own: Mapping[str, Any]) -> bool:
    """Whether what a run is judged by comes out of the training data; of texts it may without being asked for."""
    return own["evaluate"] != "test" or ("column" in own and bool(own.get("holdout")))


def _cost(record: RunRecord) -> float | None:
    """FLOPs of its own training for a sample, teachers left out."""
    samples = samples_seen(record)
    if record.flops is None or not samples:
        return None
    return (record.flops - (record.teacher_flops or 0.0)) / samples


def _unfit(run: Recycled, task: Task) -> str:
    """Why its weights cannot teach, by the checks that every teacher passes; empty if they can."""
    try:
        teacher = load_teacher(run.spec, name=run.spec, **student_side(task))
        check_teacher(task, teacher)
        logits = teacher.logits(task.batch(0, 1).inputs)
    except HeadstartError as error:
        return str(error)
    if logits.shape[-1] != task.num_classes:
        return f"it has {logits.shape[-1]} classes, the student {task.num_classes}"
    return ""
