"""One run of a recipe, from the first step to the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from headstart.distill import Teacher
from headstart.distill.targets import TargetSource
from headstart.errors import HeadstartError
from headstart.records import RunRecord, TeacherCost
from headstart.teachers import find_teacher
from headstart.train.checkpoint import load_checkpoint, save_checkpoint
from headstart.train.clock import Clock, timed
from headstart.train.environment import environment
from headstart.train.flops import forward_flops, step_flops
from headstart.train.kinds import count_steps
from headstart.train.recipe import Recipe
from headstart.train.runfolder import RunFolder, peak_memory
from headstart.train.session import Session

_TIMED_FORWARDS = 3


class Progress(Protocol):
    """Told how far a run is, every `train.log_every` steps."""

    def __call__(self, step: int, total_steps: int, loss: float) -> None:
        """After `step` of `total_steps` optimiser steps; `loss` is the last one's."""
        ...  # pragma: no cover


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    teacher_paths: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
    labels: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Train a recipe; a run that was interrupted goes on from its checkpoint, a finished one is not done again.

    Args:
        recipe: What to train.
        folder: The run folder.
        teacher_paths: Run folders of the teachers that the recipe names.
        progress: Told how far it is.
        labels: Fields of the record that a race knows: arm, budget, seed.

    Raises:
        HeadstartError: The folder holds another run or cannot be written, the loss is not finite, or anything that the
            recipe, data, or teachers got wrong.
    """
    place = RunFolder(Path(folder), recipe)
    if record := place.finished():
        return record
    session = Session(recipe, teacher_paths)
    # Before the first step: an operator whose FLOPs are not known must not be found after hours of training.
    known = _known_before(session, teacher_paths or {})
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    seconds = _train_steps(session, place, progress)
    evaluation = session.evaluate()
    record = RunRecord(
        quality=evaluation.quality,
        losses=dict(evaluation.others),
        seconds=seconds,
        memory_bytes=peak_memory(session.device),
        **known,
        **(labels or {}),
    )
    if session.accelerator.is_main_process:
        session.task.save_beside(place.path)
        place.finish(session.student, session.task.describe(), record)
    return record


def _train_steps(session: Session, place: RunFolder, progress: Progress | None) -> float:
    """Train from the checkpoint, or the beginning, to the end; the seconds it took in all."""
    config = session.recipe.train
    first, seconds = _resume(session, place)
    clock = Clock(session.device, seconds)
    clock.start()
    for step in range(first, session.total_steps):
        loss = session.train_step(step)
        done = step + 1
        if done % config.log_every == 0 or done == session.total_steps:
            clock.stop()
            _log(session, place, done, float(loss), clock.seconds)
            if progress is not None:
                progress(done, session.total_steps, float(loss))
            clock.start()
        if done % config.checkpoint_every == 0 and done < session.total_steps:
            clock.stop()
            save_checkpoint(place.path, {"step": done, "seconds": clock.seconds, **session.state_dict()})
            clock.start()
    clock.stop()
    return clock.seconds


def _resume(session: Session, place: RunFolder) -> tuple[int, float]:
    state = load_checkpoint(place.path)
    step = int(state["step"]) if state else 0
    place.go_on_from(step)
    if state is None:
        return 0, 0.0
    session.load_state_dict(state)
    return step, float(state["seconds"])


def _log(session: Session, place: RunFolder, step: int, loss: float, seconds: float) -> None:
    if not math.isfinite(loss):
        raise HeadstartError(
            f"{place.path}: the loss is {loss} at step {step}; "
            "a lower train.lr, a longer train.warmup or train.clip_norm usually help"
        )
    line = {"step": step, "seconds": round(seconds, 4), "loss": loss, "lr": session.optimizer.param_groups[0]["lr"]}
    last = session.distiller.last if session.distiller is not None else None
    if last is not None and last.step == step - 1:
        line |= {"task_loss": last.task_loss, "distill_loss": last.distill_loss, "weight": last.weight}
    place.append_metrics(line)


def _known_before(session: Session, teacher_paths: Mapping[str, Path]) -> dict[str, Any]:
    """The fields of the record that do not depend on how training goes."""
    recipe, total_steps = session.recipe, session.total_steps
    specs = recipe.distill.specs if recipe.distill else []
    teachers = session.pool.teachers if session.pool is not None else []
    inputs = session.task.batch(0, recipe.train.batch_size).inputs
    forward = session.task.forward
    teacher_flops = _over_all_draws(
        session, lambda teacher: forward_flops(teacher.module, teacher.prepared(inputs), forward)
    )
    return {
        "metric": session.task.metric,
        "higher_is_better": session.task.higher_is_better,
        "steps": count_steps(recipe, total_steps),
        "flops": step_flops(session.student, inputs, forward) * total_steps + teacher_flops,
        "teacher_flops": teacher_flops,
        "teacher_seconds": _over_all_draws(session, lambda teacher: _forward_seconds(session, teacher)),
        "teachers": [
            _teacher_cost(spec, teacher, teacher_paths.get(spec, spec))
            for spec, teacher in zip(specs, teachers, strict=False)  # none where the window never opens
        ],
        "settings": recipe.model_dump(mode="json"),
        "environment": environment(session.device),
    }


def _over_all_draws(session: Session, cost: Callable[[Teacher], float]) -> float:
    """What the teachers asked in the whole run cost: the draw of each step is known ahead."""
    pool, distiller, total = session.pool, session.distiller, session.total_steps
    if pool is None or distiller is None:
        return 0
    costs = [cost(teacher) if isinstance(teacher, Teacher) else 0.0 for teacher in pool.teachers]
    distilled = (step for step in range(total) if distiller.window.scale(step, total) > 0)
    return sum(costs[index] for step in distilled for index in pool.chosen(step))


def _forward_seconds(session: Session, teacher: Teacher) -> float:
    """Of one step's micro-batches; from the quickest of a few passes: the first are slow, others may be disturbed."""
    train, processes = session.recipe.train, session.accelerator.num_processes
    inputs = session.task.batch(0, train.batch_size, parts=train.accumulate * processes).inputs
    times = [timed(lambda: teacher.logits(inputs), session.device) for _ in range(_TIMED_FORWARDS)]
    return train.accumulate * min(times)


def _teacher_cost(spec: str, teacher: TargetSource, path: str | Path) -> TeacherCost:
    if not isinstance(teacher, Teacher):  # cached: it need not even be at hand
        return TeacherCost(name=spec)
    parameters = sum(parameter.numel() for parameter in teacher.module.parameters())
    record = find_teacher(path).record
    if record is None:
        return TeacherCost(name=spec, parameters=parameters)
    return TeacherCost(
        name=spec,
        parameters=parameters,
        quality=record.quality,
        seconds=record.seconds,
        flops=record.flops,
        steps=record.steps,
    )
