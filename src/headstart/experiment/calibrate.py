"""Step times measured interleaved, so that runs can be compared on a machine that is not quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from scipy import stats

from headstart.recipe.distill_section import Distill
from headstart.recipe.image_sizes import at_full_size, sides_of
from headstart.recipe.recipe import Recipe
from headstart.recipe.recorded import recorded_recipe, steps_today
from headstart.recipe.step_kinds import distill_kind, plain_kind
from headstart.records import Calibration, RunRecord, StepTime
from headstart.tasks.hub import one_line
from headstart.train import ranks
from headstart.train.costs.clock import timed
from headstart.train.costs.environment import device_name
from headstart.train.precision import settled
from headstart.train.session import Session

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

WARM_UP = 3  # rounds


def calibrate(
    recipes: Iterable[Recipe],
    *,
    teacher_paths: Mapping[str, Path] | None = None,
    at_hand: Iterable[RunRecord] = (),
    pairs: int = 30,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Time each kind of step that the recipes have, interleaved forwards and backwards (ABBA), in this process.

    Args:
        recipes: Those raced, and their teachers'.
        teacher_paths: Run folders of the teachers.
        at_hand: Records of teachers that were trained before the race, somewhere; see `Calibration.left_out`.
        pairs: How often each kind is timed forwards and backwards.
        progress: Told how many rounds of how many are done.

    Returns:
        Median step times; making the batch and what distilling adds are told apart.
    """
    begin = time.perf_counter()
    recipes = [settled(recipe) for recipe in recipes]
    steppers = _steppers(recipes, teacher_paths)
    left_out = _add_trained_before(steppers, at_hand, {_data_of(recipe) for recipe in recipes})
    timers = {kind: stepper.time_step for kind, stepper in steppers.items()}
    times = interleaved(timers, pairs=pairs, progress=progress)
    kinds = {kind: _step_time(times[kind]) for kind in steppers}
    for kind, stepper in steppers.items():
        if stepper.plain is not None:
            added = max(0.0, kinds[kind].seconds - kinds[stepper.plain].seconds)
            kinds[kind] = kinds[kind].model_copy(update={"teacher_seconds": added})
    device = device_name(next(iter(steppers.values())).session.device)
    seconds = time.perf_counter() - begin
    return Calibration(kinds=kinds, left_out=left_out, device=device, seconds=seconds)


def interleaved(
    timers: Mapping[K, Callable[[int], T]], *, pairs: int, progress: Callable[[int, int], None] | None = None
) -> dict[K, list[T]]:
    """Time several things in turn, forwards and backwards (ABBA), so that whatever drifts meets all alike.

    Args:
        timers: By name; each is given the number of the round, and returns what it measured.
        pairs: Rounds, after a warm-up that does not count.
        progress: Told how many rounds of how many are done.

    Returns:
        By name, two measurements a round. Those at one place of the lists were made right after each other.

    Example:
        >>> interleaved({"a": lambda round: round, "b": lambda round: -round}, pairs=2)
        {'a': [3, 3, 4, 4], 'b': [-3, -3, -4, -4]}
    """
    found: dict[K, list[T]] = {name: [] for name in timers}
    for index in range(WARM_UP + pairs):
        for name in [*timers, *reversed(list(timers))]:
            measured = timers[name](index)
            if index >= WARM_UP:
                found[name].append(measured)
        if progress is not None:
            progress(index + 1, WARM_UP + pairs)
    return found


class _Stepper:
    """Runs steps of one kind.

    Args:
        session: With distillation on all of its steps, or none.
        side: That images are resized to, in pixels; None: they are not.
        plain: The kind that the step would be without distillation; None for such a step itself.
    """

    def __init__(self, session: Session, side: int | None, plain: str | None = None) -> None:
        self.session, self.plain = session, plain
        self._side = side
        distill = session.recipe.distill
        self._steps = _distilled_steps(session) if distill is not None and distill.cache is not None else None

    def time_step(self, index: int) -> tuple[float, float]:
        """Seconds to make a step's batch, and of the whole step."""
        step = self._steps[index % len(self._steps)] if self._steps else index
        for part in (self.session.distiller, self.session.hidden):
            if part is not None:
                part.current_step = step
        device = self.session.device
        making = timed(lambda: self._make_batch(step), device)
        return making, timed(lambda: self.session.train_step(step, side=self._side), device)

    def _make_batch(self, step: int) -> None:
        for micro in range(self.session.recipe.train.accumulate):
            self.session.batch(step, micro)


def _steppers(recipes: Iterable[Recipe], teacher_paths: Mapping[str, Path] | None) -> dict[str, _Stepper]:
    steppers: dict[str, _Stepper] = {}
    sessions: dict[str, Session] = {}  # one for all sizes of images

    def session(kind: str, recipe: Recipe) -> Session:
        return sessions[kind] if kind in sessions else sessions.setdefault(kind, Session(recipe, teacher_paths))

    for recipe in recipes:
        for side in sides_of(recipe):
            plain, distilling = plain_kind(recipe, side), distill_kind(recipe, side)
            if plain not in steppers:
                steppers[plain] = _Stepper(session(plain_kind(recipe), endless(recipe, None)), side)
            if distilling is not None and distilling not in steppers:
                steppers[distilling] = _Stepper(
                    session(str(distill_kind(recipe)), always_distilling(recipe)), side, plain
                )
    return steppers


def _add_trained_before(
    steppers: dict[str, _Stepper], records: Iterable[RunRecord], data: Container[tuple[str, Any]]
) -> dict[str, str]:
    """Add the steps of teachers that were trained before the race; returns why some kinds cannot be timed here.

    A teacher's step is timed only where it is likely to be at home: on data that the race has, and on the same kind of
    device. What fails even so leaves that kind out: the race does without it.
    """
    left_out: dict[str, str] = {}
    for record in records:
        recipe, kinds = recorded_recipe(record), steps_today(record).keys() - steppers.keys()
        if not kinds:
            continue
        reason = _foreign(recipe, record, data)
        if recipe is not None and not reason:
            try:
                found = _steppers([recipe], None)
                for kind in kinds:
                    found[kind].time_step(0)
            except Exception as error:  # whatever a library makes of missing data, or too little memory
                reason = f"its steps cannot be made again here ({one_line(error)})"
            else:
                steppers |= {kind: found[kind] for kind in kinds}
        if reason:
            left_out |= dict.fromkeys(kinds, reason)
    return left_out


def _foreign(recipe: Recipe | None, record: RunRecord, data: Container[tuple[str, Any]]) -> str:
    """Why the steps of a run are none to time here, as far as its record tells; empty where they are."""
    if recipe is None:
        return "its record holds no recipe of this version"
    if _data_of(recipe) not in data:
        return f"it was trained on other data ({_data_of(recipe)[1]})"
    was, here = record.environment.get("device", ""), device_name(torch.device(ranks.connect().device))
    if was.startswith("CPU") != here.startswith("CPU"):
        return f"it was trained on another kind of device ({was or 'not recorded'})"
    return ""


def _data_of(recipe: Recipe) -> tuple[str, Any]:
    return recipe.task, recipe.data.model_dump().get("name")


def always_distilling(recipe: Recipe) -> Recipe:
    """The recipe with distillation on all of its steps."""
    if recipe.distill is None:
        return recipe
    if recipe.distill.cache is not None:  # it holds the targets of the run as it is, and no others
        return recipe.model_copy(update={"distill": recipe.distill.model_copy(update={"open_at": None})})
    # An automatic stop measures each step, and decides nothing: going back to a step, it begins anew.
    stop = {"stop": "auto", "cap": 1.0} if recipe.distill.stop == "auto" else {"stop": 1.0}
    always = {"start": 0.0, **stop, "open_at": None, "every": 1, "ramp_up": 0.0, "ramp_down": 0.0}
    return endless(recipe, recipe.distill.model_copy(update=always))


def _distilled_steps(session: Session) -> list[int]:
    """The distilled steps of a run; not the last of them, after which the teachers would be let go."""
    assert session.distiller is not None
    window, total = session.distiller.window, session.total_steps
    return [step for step in range(total) if window.scale(step, total) > 0 and not window.closed(step + 1, total)]


def endless(recipe: Recipe, distill: Distill | None) -> Recipe:
    """The recipe without an end, with images of full size and fresh weights, distilling as told."""
    endless = recipe.train.model_copy(update={"epochs": None, "steps": 1_000_000, "first_cycle": None})
    return at_full_size(recipe).model_copy(update={"init": None, "distill": distill, "train": endless})


def _step_time(measured: list[tuple[float, float]]) -> StepTime:
    data, seconds = zip(*measured, strict=True)
    low, high = median_interval(seconds)
    return StepTime(
        seconds=float(np.median(seconds)), low=low, high=high, n=len(seconds), data_seconds=float(np.median(data))
    )


def median_interval(values: Iterable[float], *, level: float = 0.95) -> tuple[float, float]:
    """Order-statistic confidence interval of the median, without assumptions on the distribution.

    Args:
        values: Independent measurements.
        level: At least this coverage; with too few values for it, their whole range.

    Returns:
        Low and high ends, both of them values.

    Example:
        >>> median_interval(range(1, 101))
        (40.0, 61.0)
    """
    ordered = sorted(float(value) for value in values)
    below = int(stats.binom.ppf((1 - level) / 2, len(ordered), 0.5))
    below = max(below, 1)
    return ordered[below - 1], ordered[-below]
