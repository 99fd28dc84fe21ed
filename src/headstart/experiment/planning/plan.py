"""The plan of a recipe's run: measured on this machine before it is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

from headstart.distill import Teacher
from headstart.distill.flops import forward_flops, step_flops
from headstart.errors import HeadstartError, RecipeError
from headstart.experiment.planning.advice import recommended
from headstart.experiment.planning.bench import Bench, smaller_cache
from headstart.experiment.planning.measure import (
    Side,
    Times,
    estimate,
    memory_of,
    step_time,
    teacher_bytes,
    time_sides,
)
from headstart.experiment.planning.stand_ins import StandIn, stand_in, trained_at
from headstart.experiment.planning.ways import Costs, distilled_sides, ways_of
from headstart.experiment.train_teachers import teacher_recipes
from headstart.recipe.distill_section import Distill
from headstart.recipe.image_sizes import sides_of
from headstart.recipe.recipe import Recipe
from headstart.recipe.recorded import samples_seen
from headstart.recipe.step_kinds import steps_of
from headstart.records import Estimate, StepTime
from headstart.tasks.images.progressive import resized
from headstart.teachers import find_teacher
from headstart.train import ranks
from headstart.train.costs.environment import device_name, environment
from headstart.train.costs.known_before import shown_to_teachers
from headstart.train.costs.planned import PlannedCache, PlannedTeacher, PlanRecord, WayName
from headstart.train.precision import settled
from headstart.train.session import with_all_teachers
from headstart.train.setup.initial_weights import start_from

Progress = Callable[[int, int], None]
T = TypeVar("T")


def plan_recipe(
    recipe: Recipe, teachers: Path, *, seconds: float = 30.0, progress: Progress | None = None
) -> PlanRecord:
    """Measure what a run of a recipe would cost, and what each way of reusing older models would add.

    Nothing is trained that is kept, and nothing is written but temporary files.

    Args:
        recipe: With a `distill` section, an `init` section, or both.
        teachers: Folder of the teachers that the recipe trains itself, each in a run folder of its name. Those that are
            not there are timed with fresh weights, which take as long.
        seconds: About how long step times are measured; what comes before takes some more.
        progress: Told how many rounds of how many are done.

    Raises:
        RecipeError: The recipe reuses no older model, or it was started as several processes.
        HeadstartError: As a run of the recipe would raise before its first step.
    """
    begin = time.perf_counter()
    if recipe.distill is None and recipe.init is None:
        raise RecipeError("distill=null, init=null: the plain run is the only way; give a recipe that reuses a model")
    if recipe.distill is not None and recipe.distill.hidden is not None:
        raise RecipeError(
            "distill.hidden: a plan times losses between logits only; set it to null to plan the rest, or let "
            "headstart race time it"
        )
    ranks.connect()
    if ranks.count() > 1:
        raise RecipeError("headstart plan times a single process; start it without torchrun or accelerate launch")
    asked = settled(recipe.model_copy(update={"race": None}))
    recipe = with_all_teachers(asked)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(TemporaryDirectory(prefix="headstart-plan-")))
        described = teacher_recipes(recipe, [recipe.model_copy(update={"distill": _live(recipe)})])
        paths = trained_at(described, teachers)
        missing = {name: stand_in(made, temporary / name) for name, made in described.items() if name not in paths}
        places = {**paths, **{name: made.path for name, made in missing.items()}}
        bench = stack.enter_context(closing(Bench(recipe, places, asked)))
        found = _Plan(recipe, bench, places, missing).record(begin, seconds, progress)
    undecided = asked.distill.undecided if asked.distill is not None else []
    return found.model_copy(update={"reasons": [*found.reasons, *_of_undecided(undecided)]})


class _Plan:
    """Puts the record together."""

    def __init__(
        self, recipe: Recipe, bench: Bench, places: Mapping[str, Path], missing: Mapping[str, StandIn]
    ) -> None:
        self.recipe, self.bench, self.places, self.missing = recipe, bench, places, missing
        self.session = bench.session
        self.steps = steps_of(recipe, self.session.task.samples)
        self.refused: dict[WayName, str] = {}

    def record(self, begin: float, seconds: float, progress: Progress | None) -> PlanRecord:
        """Measure, sum up, recommend."""
        bench, recipe = self.bench, self.recipe
        memory = memory_of(bench)
        student_flops = {side: self._student_flops(side) for side in sides_of(recipe)}
        data = bench.data_seconds()
        automatic, cached = self._try("automatic", bench.automatic), self._try("cached", bench.cached)
        reading, headers, making = cached or (None, [], 0.0)
        times = time_sides(
            bench, sides_of(recipe), automatic=automatic, cached=reading, seconds=seconds, progress=progress
        )
        full = times[None]
        blocks = sum(distilled_sides(recipe, self.steps).values()) * recipe.train.accumulate
        cache = None
        if cached is not None:
            batch = recipe.train.batch_size
            size = smaller_cache(self.session.task, blocks, batch // recipe.train.accumulate)
            cache = PlannedCache(
                bytes=size.bytes(headers),
                seconds=making * size.samples / batch,
                kind=headers[0].rows.kind,
                step=step_time(full.cached),
                by=size.by,
            )
        forwards = {
            side: [self._forward_flops(teacher, side) for teacher in bench.teachers] for side in sides_of(recipe)
        }
        planned = [
            self._teacher(number, teacher, full, forwards[None][number])
            for number, teacher in enumerate(bench.teachers)
        ]
        costs = Costs(
            recipe=recipe,
            steps=self.steps,
            times=times,
            shares=bench.shares(),
            slowest=data if bench.ahead else 0.0,
            student_flops=student_flops,
            teacher_flops={
                side: sum(share * each for share, each in zip(bench.shares(), flops, strict=True))
                for side, flops in forwards.items()
            },
            before=self._init_seconds(),
            cache=cache,
            refused=self.refused,
        )
        ways = ways_of(costs)
        epochs = self._epochs()
        name, reasons = recommended(recipe, ways, planned, epochs, cache)
        return PlanRecord(
            recipe=recipe.name,
            device=device_name(self.session.device),
            environment=environment(self.session.device),
            took=time.perf_counter() - begin,
            steps=self.steps,
            batch_size=recipe.train.batch_size,
            epochs=epochs,
            plain=step_time(full.plain, data=0.0 if bench.ahead else data),
            distilled=self._distilled(full),
            loss=self._loss(full),
            student_flops=student_flops[None],
            data_seconds=data,
            data_ahead=bench.ahead,
            teachers=planned,
            memory=memory,
            cache=cache,
            ways=ways,
            recommended=name,
            reasons=reasons,
        )

    def _try(self, kind: WayName, make: Callable[[], T]) -> T | None:
        """What a way needs, or None and why it is not possible."""
        if self.recipe.distill is None:
            return None
        try:
            return make()
        except HeadstartError as error:
            self.refused[kind] = str(error)
            return None

    def _distilled(self, full: Times) -> StepTime | None:
        if not full.distilled:
            return None
        value = full.distilled_seconds(self.bench.shares())
        return step_time(full.distilled, value=value, added=value - median(full.plain))

    def _loss(self, full: Times) -> Estimate | None:
        return estimate(full.added()) if full.distilled else None

    def _teacher(self, number: int, teacher: Teacher, full: Times, flops: float) -> PlannedTeacher:
        assert self.recipe.distill is not None
        spec = self.recipe.distill.specs[number]
        made = self.missing.get(spec)
        record = find_teacher(self.places.get(spec, spec)).record
        samples = self.steps * self.recipe.train.batch_size
        seen = made.samples if made is not None else None if record is None else samples_seen(record)
        return PlannedTeacher(
            name=teacher.name,
            trained=made is None,
            quality=None if record is None else record.quality,
            metric="" if record is None else record.metric,
            parameters=sum(weight.numel() for weight in teacher.module.parameters()),
            bytes=teacher_bytes(teacher),
            share=self.bench.shares()[number],
            forward=step_time(full.forwards[number]),
            flops=flops,
            training_flops=made.training_flops if made is not None else record.flops if record is not None else None,
            seen=None if seen is None else seen / samples,
        )

    def _student_flops(self, side: Side) -> float:
        session = self.session
        inputs = resized(session.batch(0).inputs, side)
        return float(session.parts * step_flops(session.student, inputs, session.task.forward))

    def _forward_flops(self, teacher: Teacher, side: Side) -> float:
        session = self.session
        assert self.bench.pool is not None
        self.bench.pool.bring(teacher, session.device)
        inputs = teacher.prepared(resized(shown_to_teachers(session), side))
        return float(session.parts * forward_flops(teacher.module, inputs, session.task.forward))

    def _init_seconds(self) -> float | None:
        if self.recipe.init is None:
            return None
        session, spec = self.session, self.recipe.init.source
        student = session.task.build_model().to(session.device)
        initial = start_from(student, self.recipe, session.task, session.device, self.places.get(spec))
        assert initial is not None
        return initial.seconds

    def _epochs(self) -> float | None:
        if getattr(self.recipe.data, "streaming", False):
            return None
        return self.steps * self.recipe.train.batch_size / self.session.task.samples


def _of_undecided(keys: Sequence[str]) -> list[str]:
    """What is to be known where a look before training decides settings (docs/auto.md)."""
    if not keys:
        return []
    return [
        f"what the look before training decides (distill.{', '.join(keys)}: auto) is planned at its dearest, every "
        "teacher on every step of the window; the look itself is not among these figures"
    ]


def _live(recipe: Recipe) -> Distill | None:
    """The recipe's `distill` section with live teachers."""
    return None if recipe.distill is None else recipe.distill.model_copy(update={"cache": None})
