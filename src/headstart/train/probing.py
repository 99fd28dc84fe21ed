"""A look at the teachers of a recipe, and the settings that it leaves open decided by that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from headstart.distill import Teacher
from headstart.distill.flops import forward_flops
from headstart.distill.inputs import first_tensor
from headstart.distill.objective import labelled
from headstart.distill.probing import Probe, choose, probe
from headstart.distill.targets.source import numbered
from headstart.generators import generators_untouched
from headstart.precision import AUTOCAST
from headstart.recipe.automatic import decided, provisional
from headstart.recipe.distill_section import Distill
from headstart.recipe.image_sizes import count_sides
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import steps_of, window_of
from headstart.records import AutoRecord, RunRecord
from headstart.tasks import Batch, Task
from headstart.tasks.images.losses import soft_labels
from headstart.teachers import TeacherEntry, find_teacher
from headstart.train import ranks
from headstart.train.setup.build_task import build_task
from headstart.train.setup.initial_weights import start_from
from headstart.train.setup.load_pool import load_one

_ROWS = 1024  # labelled rows that are enough to look at
_FEWEST, _MOST = 2, 8  # batches of a step, all its micro-batches
_PRICE = 0.01  # of the training, about, that a look may take

Progress = Callable[[int, int], None]


@dataclass
class Looked:
    """A probe of a recipe's teachers.

    Attributes:
        probe: What was found.
        rows: Which rows were looked at, in words.
        seconds: That it took, without reading teachers and data.
        flops: Of its forwards.
    """

    probe: Probe
    rows: str
    seconds: float
    flops: float


def look_at_teachers(
    recipe: Recipe,
    task: Task,
    device: torch.device,
    paths: Mapping[str, Path],
    *,
    timed: bool = False,
    in_full: bool = False,
    progress: Progress | None = None,
) -> Looked:
    """Probe the teachers of a recipe, one after the other, with a student that is made for it and let go.

    It begins as the run's does, with the weights of the recipe's `init` where there is one.

    The rows are training samples that are set aside from the student where the recipe sets any aside that it is not
    judged by, else the first batches that it trains on. The window is the recipe's, and the compute of its whole
    training is held against what the teachers' took, where they are runs.

    Args:
        recipe: With a `distill` section and a precision.
        task: The student's.
        device: Where it trains.
        paths: Run folders of the teachers that the recipe describes.
        timed: As in `probe`.
        in_full: As there.
        progress: As there.

    Raises:
        HeadstartError: As `probe`.
        TeacherError: A teacher cannot be read or does not fit.
    """
    assert recipe.distill is not None
    batches, rows = _batches(recipe, task)
    loading = _Loading(recipe, paths, task)
    with generators_untouched():
        begin = time.perf_counter()
        student = task.build_model()
        start_from(student, recipe, task, device, paths.get(recipe.init.source) if recipe.init else None)
        student = student.to(device)
        found = probe(
            loading.teachers(recipe.distill.teachers),
            student,
            [(batch.inputs, _labels(batch, task)) for batch in batches],
            head="classes",
            forward=task.forward,
            autocast=AUTOCAST[recipe.train.precision],
            window=window_of(provisional(recipe.distill)),
            total_steps=_whole_steps(recipe, task),
            trained=_trained(recipe, paths),
            timed=timed,
            in_full=in_full,
            progress=progress,
        )
        seconds = time.perf_counter() - begin - loading.seconds
        flops = _flops(found, student, batches, task)
    return Looked(found, rows, seconds, flops)


def decide(
    recipe: Recipe,
    task: Task,
    device: torch.device,
    paths: Mapping[str, Path],
    known: AutoRecord | None = None,
) -> tuple[Recipe, AutoRecord | None]:
    """The recipe with settings in place of those that it leaves to a probe; of several processes the first one looks.

    Args:
        recipe: As `look_at_teachers` takes it.
        task: As there.
        device: As there.
        paths: As there.
        known: What was chosen before: a run that goes on looks at nothing anew.

    Returns:
        The recipe, without a `distill` section where no teacher is of use; and what was chosen, None where there was
        nothing to choose.
    """
    if recipe.distill is None or not recipe.distill.undecided:
        return recipe, None
    found = known
    if found is None and ranks.is_main():
        asks_all = "weights" not in recipe.distill.undecided  # also those that cannot be worth it
        found = chosen(recipe, look_at_teachers(recipe, task, device, paths, in_full=asks_all))
    ranks.wait_for_slow_ones()
    found = ranks.from_main(lambda: found)
    assert found is not None
    section = None if found.distill is None else type(recipe.distill).model_validate(found.distill)
    return recipe.model_copy(update={"distill": section}), found


def chosen(recipe: Recipe, looked: Looked) -> AutoRecord:
    """What a look makes of the settings that a recipe leaves open."""
    assert recipe.distill is not None
    choice = choose(looked.probe, _fixed_weights(recipe.distill, looked.probe))
    section = decided(recipe.distill, choice)
    return AutoRecord(
        distill=None if section is None else section.model_dump(mode="json"),
        reasons=list(choice.reasons),
        rows=looked.rows,
        probe=looked.probe.to_dict(),
        seconds=looked.seconds,
        flops=looked.flops,
    )


def _fixed_weights(distill: Distill, found: Probe) -> dict[str, float] | None:
    """By the names that the probe gives teachers; None where it is to choose them."""
    if distill.weights == "auto":
        return None
    names = [teacher.name for teacher in found.teachers]
    return dict(zip(names, distill.weights or [1.0] * len(names), strict=True))


@dataclass
class _Loading:
    """Teachers read one after the other, and how long that takes."""

    recipe: Recipe
    paths: Mapping[str, Path]
    task: Task
    seconds: float = field(default=0.0, init=False)

    def teachers(self, entries: list[TeacherEntry]) -> Iterator[Teacher]:
        for entry in entries:
            begin = time.perf_counter()
            teacher = load_one(entry, self.paths, self.task, autocast=AUTOCAST[self.recipe.train.precision])
            self.seconds += time.perf_counter() - begin
            yield teacher


def _batches(recipe: Recipe, task: Task) -> tuple[list[Batch], str]:
    """Micro-batches to look at, and which rows they are of."""
    parts, most, aside = _parts(recipe), _affordable(recipe, task), _set_aside(recipe)
    if aside is not None:
        key, evaluate = aside
        judged = recipe.model_copy(update={"data": recipe.data.model_copy(update={"evaluate": evaluate})})
        other = build_task(judged, ranks.connect().device)
        if not _judged_alike(task, other):
            found = _enough(islice(other.held_out(recipe.train.batch_size // parts), _MOST * parts), most, parts)
            return found, f"training samples set aside by data.{key}"
    make = partial(task.batch, size=recipe.train.batch_size, part=0, parts=parts)
    told = "the first training batches, which the student trains on, too (data.tuning would set others aside)"
    return _enough((make(step) for step in range(_MOST * parts)), most, parts), told


def _judged_alike(task: Task, other: Task) -> bool:
    """Whether both judge by the same samples: a text without a test split is judged by what `holdout` sets aside."""
    one, another = (first_tensor(next(each.held_out(1)).inputs) for each in (task, other))
    return one is not None and another is not None and torch.equal(one, another)


def _set_aside(recipe: Recipe) -> tuple[str, str] | None:
    """The key that sets samples aside, and how they are judged on; none by which the run itself is judged."""
    judged = getattr(recipe.data, "evaluate", "test")
    for key, evaluate in (("tuning", "tuning"), ("holdout", "validation")):
        if getattr(recipe.data, key, 0) and judged == "test":
            return key, evaluate
    return ("tuning", "tuning") if getattr(recipe.data, "tuning", 0) and judged == "validation" else None


def _affordable(recipe: Recipe, task: Task) -> int:
    """How many micro-batches to look at, were each teacher of the student's size: a forward is a third of a step."""
    assert recipe.distill is not None
    steps = steps_of(recipe, task.samples) * _parts(recipe)
    return max(_FEWEST * _parts(recipe), int(_PRICE * steps * 3 / (1 + len(recipe.distill.teachers))))


def _whole_steps(recipe: Recipe, task: Task) -> int:
    """Micro-batches of the training; those of smaller images count by their pixels, as convolutions do."""
    sides = count_sides(recipe, steps_of(recipe, task.samples))
    full: int = getattr(recipe.data, "size", None) or 1
    whole = sum(count * (1.0 if side is None else (side / full) ** 2) for side, count in sides.items())
    return max(1, round(whole * _parts(recipe)))


def _enough(batches: Iterator[Batch], most: int, parts: int) -> list[Batch]:
    """The first ones that have enough labelled rows, or as many as are affordable."""
    found: list[Batch] = []
    rows = 0
    for batch in batches:
        found.append(batch)
        rows += int(labelled(batch.labels).sum())
        if len(found) >= most or (rows >= _ROWS and len(found) >= _FEWEST * parts):
            break
    return found


def _labels(batch: Batch, task: Task) -> Tensor:
    return batch.labels if batch.mixed is None else soft_labels(batch, task.num_classes)


def _parts(recipe: Recipe) -> int:
    return recipe.train.accumulate * ranks.count()


def _trained(recipe: Recipe, paths: Mapping[str, Path]) -> dict[str, float]:
    """FLOPs of the teachers' trainings, where they are known, by the names that a pool gives them.

    Of one that began with an older model's weights they are not: that model's training is in it, too.
    """

    def alone(record: RunRecord) -> bool:
        return record.init is None and not record.settings.get("model", {}).get("pretrained")

    assert recipe.distill is not None
    specs = recipe.distill.specs
    records = [find_teacher(paths.get(spec, spec)).record for spec in specs]
    known = zip(numbered(specs), records, strict=True)
    return {name: record.flops for name, record in known if record is not None and record.flops and alone(record)}


def _flops(found: Probe, student: nn.Module, batches: list[Batch], task: Task) -> float:
    """Of the student's forwards and the teachers'; the batches are alike."""
    own = forward_flops(student, batches[0].inputs, task.forward) if found.outputs else 0.0
    asked = found.teachers if found.rows else ()
    teachers = sum((teacher.cost or 0.0) * (found.step_flops or 0.0) for teacher in asked)
    return len(batches) * (own + teachers)


def told(record: AutoRecord) -> list[str]:
    """What was chosen, for people: sentences, and the section to copy, as far as it is not at its defaults."""
    section = record.distill
    if section is not None:
        section = Distill.model_validate(section).model_dump(mode="json", exclude_defaults=True)
    fixed = yaml.safe_dump({"distill": section}, sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip()
    looked = [f"looked at {record.rows}"] if record.probe.get("rows") else []
    return [*looked, *record.reasons, "the same as fixed settings:", *fixed.splitlines()]
