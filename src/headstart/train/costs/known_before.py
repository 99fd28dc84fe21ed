"""What is known of a run before its first step: how much work it is, and what its teachers cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule

from headstart.distill import Teacher
from headstart.distill.asking.part_of_batch import first_part
from headstart.distill.flops import forward_flops, step_flops
from headstart.distill.targets.source import Keys
from headstart.recipe.image_sizes import count_sides, side_of_step
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import count_steps
from headstart.records import AutoRecord, InitRecord, TeacherCost
from headstart.tasks.images.progressive import resized
from headstart.train import ranks
from headstart.train.costs.clock import timed
from headstart.train.costs.environment import environment
from headstart.train.costs.teachers import teacher_cost, weights_cost
from headstart.train.costs.teachers_of_steps import ask, asked_teachers, projection_flops, teachers_forward
from headstart.train.session import Session

_TIMED_FORWARDS = 3


@dataclass(frozen=True)
class KnownBefore:
    """What is known of a run's costs before its first step.

    Attributes:
        recipe: Of the run.
        total_steps: Of the run.
        student_flops: Of the whole run, its start from an older model and a look at the teachers included.
        teacher_flops: Of this process's teachers, by distilled step.
        teacher_seconds: Of the same.
        others: Fields of the record as they are.
    """

    recipe: Recipe
    total_steps: int
    student_flops: float
    teacher_flops: Mapping[int, float]
    teacher_seconds: Mapping[int, float]
    others: Mapping[str, Any]

    def fields(self, begin: int = 0, end: int | None = None) -> dict[str, Any]:
        """The fields of the record; all processes have to call it.

        Args:
            begin: The first distilled step, where the window opened by itself.
            end: The step after the last distilled one, where an automatic stop came before its cap.
        """
        last = self.total_steps if end is None else end
        flops, seconds = ranks.mean(
            sum(cost for step, cost in costs.items() if begin <= step < last)
            for costs in (self.teacher_flops, self.teacher_seconds)
        )
        return {
            "steps": count_steps(self.recipe, self.total_steps, begin=begin, end=end),
            "flops": self.student_flops + flops,
            "teacher_flops": flops,
            "teacher_seconds": seconds,
            **self.others,
        }


def known_before(
    session: Session,
    teacher_paths: Mapping[str, Path],
    initial: InitRecord | None = None,
    auto: AutoRecord | None = None,
) -> KnownBefore:
    """What does not depend on how training goes, but for where a window opens and closes by itself.

    Args:
        session: Of the run, before its first step.
        teacher_paths: Run folders of the teachers that the recipe describes.
        initial: What the student took over from an older model, be it in an earlier start of the run.
        auto: What a look at the teachers made of the settings, likewise.

    Raises:
        HeadstartError: The FLOPs of an operator are not known; names it.
    """
    recipe, total_steps = session.recipe, session.total_steps
    forward, shown = teachers_forward(session), shown_to_teachers(session)

    def flops(teacher: Teacher, side: int | None) -> int:
        whole = _whole_teacher(session, teacher)
        return session.parts * forward_flops(whole, teacher.prepared(resized(shown, side)), forward)

    others = {
        "metric": session.task.metric,
        "higher_is_better": session.task.higher_is_better,
        "teachers": _teacher_costs(session, teacher_paths, initial),
        "init": initial,
        "auto": auto,
        "settings": recipe.model_dump(mode="json"),
        "environment": environment(session.device),
    }
    return KnownBefore(
        recipe,
        total_steps,
        student_flops=_student_flops(session)
        + projection_flops(session)
        + sum(spent.flops for spent in (initial, auto) if spent is not None),
        teacher_flops=_by_step(session, flops),
        teacher_seconds=_by_step(session, partial(_forward_seconds, session)),
        others=others,
    )


def _teacher_costs(
    session: Session, teacher_paths: Mapping[str, Path], initial: InitRecord | None
) -> list[TeacherCost]:
    """Of the teachers, and of the model that the student starts from."""
    distill, init = session.recipe.distill, session.recipe.init
    specs = distill.specs if distill is not None else []
    asked = asked_teachers(session)
    teachers = asked.teachers if asked is not None else []
    costs = [
        teacher_cost(spec, teacher, teacher_paths.get(spec, spec))
        for spec, teacher in zip(specs, teachers, strict=False)  # none where the window never opens
    ]
    if init is not None and init.source not in [cost.name for cost in costs]:
        path = teacher_paths.get(init.source, init.source)
        costs.append(weights_cost(init.source, None, path) if initial is None else initial.source)
    return costs


def _student_flops(session: Session) -> int:
    """Of the whole run; a batch is counted by its micro-batches, which are alike."""
    student, inputs = _whole_student(session), session.batch(0).inputs
    steps = count_sides(session.recipe, session.total_steps).items()
    forward = session.task.forward
    return session.parts * sum(step_flops(student, resized(inputs, side), forward) * count for side, count in steps)


def _whole_student(session: Session) -> nn.Module:
    """The student, or one like it where it is sharded."""
    return session.task.build_model() if isinstance(session.student, FSDPModule) else session.student


def _whole_teacher(session: Session, teacher: Teacher) -> nn.Module:
    """The module of a teacher, or one like it where it is sharded."""
    return teacher.module if session.pool is None else session.pool.outline(teacher)


def _by_step(session: Session, cost: Callable[[Teacher, int | None], float]) -> dict[int, float]:
    """What the teachers asked at each distilled step cost this process: the draws are known ahead."""
    asked, pool, total = asked_teachers(session), session.pool, session.total_steps
    if asked is None:
        return {}
    distilled = [step for step in range(total) if asked.window.scale(step, total) > 0]
    sides = {step: side_of_step(session.recipe, step, total) for step in distilled}
    costs = []
    for teacher in asked.teachers:
        if pool is not None:
            pool.bring(teacher, session.device)
        live = teacher if isinstance(teacher, Teacher) else None
        costs.append({side: 0.0 if live is None else cost(live, side) for side in dict.fromkeys(sides.values())})
    return {step: sum(costs[index][sides[step]] for index in asked.chosen(step)) for step in distilled}


def _forward_seconds(session: Session, teacher: Teacher, side: int | None) -> float:
    """Of one step's micro-batches; from the quickest of a few passes: the first are slow, others may be disturbed."""
    inputs = resized(shown_to_teachers(session), side)
    times = [timed(lambda: ask(session, teacher, inputs), session.device) for _ in range(_TIMED_FORWARDS)]
    return session.recipe.train.accumulate * min(times)


def shown_to_teachers(session: Session) -> Any:
    """The inputs of a micro-batch that teachers are given."""
    distill = session.recipe.distill
    batch = session.batch(0)
    fraction = 1.0 if distill is None else distill.fraction
    part = first_part(fraction, batch.inputs, Keys(batch.samples, batch.epoch))
    return batch.inputs if part is None else part.of_inputs(batch.inputs)
