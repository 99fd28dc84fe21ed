"""What of a recipe is measured for a plan: step times side by side, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from headstart.distill import Distiller, Teacher
from headstart.experiment.calibrate import interleaved, median_interval
from headstart.experiment.planning.bench import Bench
from headstart.records import Estimate, StepTime
from headstart.train.costs.memory import (
    forget_highest,
    highest_resident_bytes,
    module_bytes,
    optimizer_bytes,
    tensor_bytes,
)
from headstart.train.costs.planned import PlannedMemory
from headstart.train.state.run_folder import peak_memory

Side = int | None

_FEW = 3  # steps in which a peak of memory shows
_ROUNDS = (5, 40)  # of each timer, whatever time there is
_EVALUATED = 8  # one part of so many


@dataclass(frozen=True)
class Times:
    """Seconds of steps and forwards at one size of images, each a list with one entry a measurement.

    Attributes:
        plain: Of steps without distillation.
        distilled: Of steps with it.
        automatic: Of steps that look for an automatic stop.
        cached: Of steps that read targets.
        forwards: Of each teacher.
        asked: Which teachers each distilled step asked.
    """

    plain: Sequence[float]
    distilled: Sequence[float] = ()
    automatic: Sequence[float] = ()
    cached: Sequence[float] = ()
    forwards: Sequence[Sequence[float]] = ()
    asked: Sequence[Sequence[int]] = ()

    def added(self) -> list[float]:
        """What each distilled step took beyond a plain one and its teachers' forwards made right beside it."""
        forwards = [sum(self.forwards[one][place] for one in asked) for place, asked in enumerate(self.asked)]
        return [
            taught - plain - asked for taught, plain, asked in zip(self.distilled, self.plain, forwards, strict=True)
        ]

    def distilled_seconds(self, shares: Sequence[float]) -> float:
        """Of a distilled step on average.

        Args:
            shares: How many of the distilled steps ask each teacher.
        """
        asked = sum(share * median(times) for share, times in zip(shares, self.forwards, strict=True))
        return median(self.plain) + median(self.added()) + asked

    def beyond(self, times: Sequence[float], others: Sequence[float]) -> float:
        """The median of differences between measurements made beside each other."""
        return median(one - other for one, other in zip(times, others, strict=True))


def time_sides(
    bench: Bench,
    sides: Sequence[Side],
    *,
    automatic: Distiller | None,
    cached: Distiller | None,
    seconds: float,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Side, Times]:
    """Time all kinds of steps at all sizes of images, interleaved.

    Args:
        bench: What takes the steps.
        sides: Of images; one of None for others.
        automatic: With an automatic stop; None: not timed.
        cached: With cached targets; None: not timed.
        seconds: About how long it may take.
        progress: Told how many rounds of how many are done.
    """
    timers: dict[tuple[str, Side], Callable[[int], float]] = {("data", None): bench.batch}
    for side in sides:
        timers["plain", side] = bench.step(None, side)
        for name, distiller in (("distilled", bench.distiller), ("automatic", automatic), ("cached", cached)):
            if distiller is not None:
                timers[name, side] = bench.step(distiller, side)
        for number, teacher in enumerate(bench.teachers):
            timers[f"forward {number}", side] = bench.forward(teacher, side)
    found = interleaved(timers, pairs=_rounds(timers, seconds), progress=progress)
    return {side: _times(bench, found, side) for side in sides}


def step_time(
    seconds: Sequence[float], *, value: float | None = None, data: float = 0.0, added: float = 0.0
) -> StepTime:
    """Measurements as a record: their median, or a value in its place, with the interval around it."""
    low, high = median_interval(seconds)
    middle = median(seconds)
    moved = 0.0 if value is None else value - middle
    return StepTime(
        seconds=middle + moved,
        low=max(0.0, low + moved),
        high=high + moved,
        n=len(seconds),
        data_seconds=data,
        teacher_seconds=max(0.0, added),
    )


def estimate(values: Sequence[float]) -> Estimate:
    """The median with its interval."""
    low, high = median_interval(values)
    return Estimate(value=median(values), low=low, high=high)


def memory_of(bench: Bench) -> PlannedMemory:
    """The memory that a run's steps take: a few plain ones, then a part of an evaluation, then a few that distil.

    In this order, as a process may keep what it has freed, and its peak does not fall again.
    """
    session = bench.session
    ready = highest_resident_bytes()
    plain = _peak(bench, None)
    evaluated = _highest(session.device, lambda: session.evaluate(shares=_EVALUATED))
    distilled = _peak(bench, bench.distiller) if bench.distiller is not None else plain
    host = highest_resident_bytes()
    device = session.device.type != "cpu"
    peaks = [peak for peak in (plain, distilled, evaluated) if peak is not None]
    student = session.student
    parts = {
        "parameters": module_bytes(student),
        "gradients": tensor_bytes(weight for weight in student.parameters() if weight.requires_grad),
        "optimizer": optimizer_bytes(session.optimizer),
        "average": 0 if session.result is student else module_bytes(session.result),
        "teachers": _teachers_bytes(bench),
    }
    highest = max(peaks) if peaks else None
    return PlannedMemory(
        **parts,
        rest=None if highest is None else highest - sum(parts.values()),
        plain_peak=None if plain is None else max(plain, evaluated or 0),
        distilled_peak=highest,
        host_peak=max((peak for peak in (ready, host if device else highest) if peak is not None), default=None),
    )


def _rounds(timers: Mapping[tuple[str, Side], Callable[[int], float]], seconds: float) -> int:
    """How many rounds there is time for: first calls are slow, second ones tell."""
    for timer in timers.values():
        timer(0)
    begin = time.perf_counter()
    for timer in timers.values():
        timer(0)
    taken = 2 * (time.perf_counter() - begin)
    least, most = _ROUNDS
    return max(least, min(most, int(seconds / taken)))


def _times(bench: Bench, found: Mapping[tuple[str, Side], Sequence[float]], side: Side) -> Times:
    kinds = {name: found.get((name, side), ()) for name in ("plain", "distilled", "automatic", "cached")}
    forwards = [found[f"forward {number}", side] for number in range(len(bench.teachers))]
    asked = [bench.asked(place) for place in range(len(kinds["distilled"]))]
    return Times(**kinds, forwards=forwards, asked=asked)


def _peak(bench: Bench, distiller: Distiller | None) -> int | None:
    step = bench.step(distiller, None)
    return _highest(bench.session.device, lambda: [step(index) for index in range(_FEW)])


def _highest(device: torch.device, work: Callable[[], object]) -> int | None:
    """The peak of memory in which work is done; None where nothing tells."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    told = forget_highest()
    work()
    return peak_memory(device) if device.type != "cpu" else highest_resident_bytes() if told else None


def _teachers_bytes(bench: Bench) -> int:
    sizes = sorted((teacher_bytes(teacher) for teacher in bench.teachers), reverse=True)
    # Streamed: the one that works, and the next.
    return sum(sizes if bench.pool is None or bench.pool.stays else sizes[:2])


def teacher_bytes(teacher: Teacher) -> int:
    """Of a teacher's weights and buffers."""
    return module_bytes(teacher.module)
