"""A look at teachers before training: what each knows, what it costs, and whether asking it can pay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.heads.head import Head
from headstart.distill.inputs import device_of, first_tensor
from headstart.distill.pool.pool import TeacherPool, each_of
from headstart.distill.pool.shared import refuse_shared
from headstart.distill.pool.teacher import Teacher
from headstart.distill.probing.calibrating import SHARPEST, calibrating_temperature
from headstart.distill.probing.evidence import Evidence, mean_of_heads
from headstart.distill.probing.prices import Prices, Turn
from headstart.distill.probing.record import Probe, TeacherProbe, teacher_probe
from headstart.distill.probing.rows import Asked, ask_student, ask_teacher
from headstart.distill.probing.sample_gradients import grace_of
from headstart.distill.probing.student import Forward, StudentCopy, outputs_in, teacher_flops
from headstart.distill.probing.verdict import why_dropped
from headstart.distill.probing.worth import mostly_noise
from headstart.distill.targets.source import TargetSource, numbered
from headstart.distill.window import Window
from headstart.errors import HeadstartError, TeacherError
from headstart.generators import generators_untouched
from headstart.timing import quickest

Teachers = TeacherPool | nn.Module | TargetSource | Iterable[nn.Module | TargetSource]


@dataclass(frozen=True)
class Measured:
    """What one teacher said and costs, before it is held against the others.

    Attributes:
        name: Its name.
        finite: What of its outputs was finite, of each head; None where in a head nothing was.
        bad: How much of what counts was not.
        temperature: What calibrates it; None for values.
        cost: Of a forward, in steps of the student: FLOPs; None where they are not counted.
        time: The same in seconds.
        grace: The score of its gradients, where it was asked for.
    """

    name: str
    finite: list[Evidence] | None
    bad: int
    temperature: float | None
    cost: float | None
    time: float | None
    grace: float | None = None

    @cached_property
    def calibrated(self) -> float:
        """Its task loss, calibrated; infinite where it said nothing."""
        if self.finite is None:
            return math.inf
        return mean_of_heads([head.losses(self.temperature or 1.0) for head in self.finite])

    @property
    def brier(self) -> float | None:
        """Its Brier score, calibrated; None where there are no classes, or it said nothing."""
        scores = [head.brier(max(SHARPEST, self.temperature or 1.0)) for head in self.finite or []]
        known = [score for score in scores if score is not None]
        return mean_of_heads(known) if known else None


def probe(
    teachers: Teachers,
    student: nn.Module,
    batches: Iterable[tuple[Any, Any]],
    *,
    head: Head | None = None,
    class_dim: int | None = None,
    forward: Forward = outputs_in,
    autocast: torch.dtype | None = None,
    window: Window | None = None,
    total_steps: int | None = None,
    trained: Mapping[str, float] | None = None,
    timed: bool = True,
    gradients: bool = False,
    in_full: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Probe:
    """Look at teachers on some batches of labelled training data, best of such as they have not been trained on.

    The student is copied: its buffers, gradients and modes stay as they are, and so do all random generators. Teachers
    are frozen and put into eval mode, as a Distiller does, one after the other: of an iterable each is asked for when
    it is its turn, and let go after it.

    A teacher is ranked by how many times as fast training may get, g / (1 + rho f), the cost model of docs/auto.md:
    f is the window's share of the steps, rho the forward's share of a step, and 1 - 1 / g the steps that may be saved:
    half of them (the most that has been measured), times what it knows beyond chance beside the best of the teachers,
    times how long it stays ahead of the student, by the compute of both where that is known. It is dropped where it
    says nothing of the labels, or where that is no gain.

    Args:
        teachers: As in `Distiller`; live ones.
        student: The model that is to be trained, before its first step.
        batches: Inputs and labels as the Distiller takes them, each of the size of a training step; some hundred
            labelled rows in all.
        head: As in `Distiller`: what the outputs are. Default: classes.
        class_dim: As there.
        forward: The student's logits, from the module and inputs; by default what the module returns, its `logits`, or
            the first of a tuple. Several heads come by name.
        autocast: Dtype that the student trains in under autocast. Default: none.
        window: When to distil. Default: the Distiller's, the first half. An automatic stop ends where its cap is.
        total_steps: Optimiser steps of the training; with `trained` it tells how long a teacher stays ahead.
        trained: By name of a teacher, FLOPs that its training took. Default: not known, and the best is hoped for.
        timed: Whether to time the student's step and the forwards, for the column `time`. Where FLOPs cannot be counted
            it is done in any case, and the cost is that time.
        gradients: Whether to score teachers by the student's gradients, too: GRACE (arXiv 2511.02833), of classes and
            one head. Nothing else goes by it. Default: not, as it takes a forward and backward for each of 64 samples.
        in_full: Whether to look at them in any case. If not, nothing is asked where none of them can be worth its cost,
            or save enough, whatever it knows, by its FLOPs and by what `trained` tells.
        progress: Told how many forwards of how many are done.

    Returns:
        A record; `print` shows it as a table.

    Raises:
        HeadstartError: No batches, no labels, a student that cannot be copied; or as `Distiller` of the outputs.
        TeacherError: A teacher does not fit the student, or its targets come from a cache.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> student, good, stranger = (nn.Linear(2, 3) for _ in range(3))
        >>> weight = torch.tensor([[9.0, 0.0], [0.0, 9.0], [-9.0, -9.0]])
        >>> _ = good.load_state_dict({"weight": weight, "bias": torch.zeros(3)})
        >>> inputs = torch.randn(300, 2)
        >>> found = probe([good, stranger], student, [(inputs, good(inputs).argmax(-1))], timed=False)
        >>> found.ranked[0].name, found.ranked[0].accuracy
        ('Linear #1', 1.0)
    """
    shown = list(batches)
    if not shown:
        raise HeadstartError("probe: no batches, so there is nothing to look at; give pairs of inputs and labels")
    for batch in shown:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise HeadstartError(
                f"probe: a batch is a {type(batch).__name__} and no pair; give (inputs, labels) for each, as in "
                "probe(teachers, student, [(inputs, labels)])"
            )
    window = window or Window(stop=0.5)
    with generators_untouched():
        copied = StudentCopy(student, forward, autocast)
        costs = _Costs(copied, shown[0][0], timed)
        prices = Prices(window, costs.student_flops, total_steps, trained or {})
        turns = ((teacher, *costs.of(teacher)) for teacher in _one_by_one(teachers, shown[0][0], student))
        waiting = [] if in_full else _without_hope(turns, prices)
        if waiting and prices.all_hopeless(waiting):
            return prices.unasked(waiting, head or "classes")
        asked, said = ask_student(copied, shown, head, class_dim)
        outputs = max(one.logits.shape[-1] for one in said)
        prices = replace(prices, noisy=mostly_noise(asked.head, outputs, None))
        waiting = [] if in_full else _without_hope(chain(waiting, turns), prices)
        if waiting and prices.all_hopeless(waiting):
            return prices.unasked(waiting, asked.head, outputs)
        measured: list[Measured] = []
        for teacher, *price in chain(waiting, turns):
            one = _measure(teacher, asked, price, progress, len(measured))
            if gradients and one.temperature is not None and asked.head == "classes":
                one = replace(one, grace=grace_of(copied, teacher, shown[0][0], one.temperature))
            measured.append(one)
    if not measured:
        raise TeacherError("probe: there are no teachers; give at least one")
    return _judged(measured, said, asked.head, outputs, prices)


def _without_hope(turns: Iterator[Turn], prices: Prices) -> list[Turn]:
    """The first teachers, up to the first one that may be worth its cost: if that never comes, none need be asked."""
    found: list[Turn] = []
    for turn in turns:
        found.append(turn)
        if not prices.all_hopeless(found):
            break
    return found


class _Costs:
    """Forwards of teachers in steps of the student, by FLOPs and by the clock."""

    def __init__(self, student: StudentCopy, inputs: Any, timed: bool) -> None:
        self.student_flops = student.flops(inputs)
        self._student, self._inputs, self._timed = student, inputs, timed

    def of(self, teacher: Teacher) -> tuple[float | None, float | None]:
        """By FLOPs where both are counted; by the clock where that was asked for, or nothing else tells."""
        flops = teacher_flops(teacher, self._inputs)
        cost = None if flops is None or not self.student_flops else flops / self.student_flops
        if cost is not None and not self._timed:
            return cost, None
        forward = quickest(lambda: teacher.targets(self._inputs), device_of(self._inputs))
        return cost, forward / self._student.step_seconds(self._inputs)


def _one_by_one(teachers: Teachers, inputs: Any, student: nn.Module) -> Iterator[Teacher]:
    pool = teachers if isinstance(teachers, TeacherPool) else None
    first = first_tensor(inputs)
    for item in each_of(teachers):
        teacher = item if isinstance(item, TargetSource) else Teacher(item)
        if not isinstance(teacher, Teacher):
            raise TeacherError(
                f"{teacher.name}: its targets come from a cache, so there is no teacher to look at; probe the teacher "
                "itself, before its targets are cached"
            )
        refuse_shared([teacher], student.parameters(), "the student")
        if first is not None:
            if pool is not None:
                pool.bring(teacher, first.device)
            else:
                teacher.to(first.device)
        yield teacher


def _measure(
    teacher: Teacher,
    asked: Asked,
    price: Sequence[float | None],
    progress: Callable[[int, int], None] | None,
    before: int,
) -> Measured:
    said, done = [], len(asked.batches) * before

    def told(batch: int) -> None:
        if progress is not None:
            progress(done + batch, done + len(asked.batches))

    said = ask_teacher(teacher, asked, told)
    parts = [head.finite() for head in said]
    finite = [evidence for evidence, _ in parts]
    usable = all(evidence.count for evidence in finite)
    temperature = calibrating_temperature(finite) if usable and asked.head != "values" else None
    cost, time = price
    return Measured(teacher.name, finite if usable else None, sum(bad for _, bad in parts), temperature, cost, time)


def _judged(measured: list[Measured], student: list[Evidence], head: Head, outputs: int, prices: Prices) -> Probe:
    chance = mean_of_heads([one.by_chance() for one in student])
    own = mean_of_heads([one.losses() for one in student])
    base = min(chance, own)
    known = base - min(min(one.calibrated for one in measured), base)
    best = min((one.brier for one in measured if one.brier is not None), default=0.0)
    prices = replace(prices, noisy=mostly_noise(head, outputs, best))
    names = numbered([one.name for one in measured])
    found: list[TeacherProbe] = []
    for one, name in zip(measured, names, strict=True):
        knowledge = (base - one.calibrated) / known if known > 0.0 and one.finite is not None else 0.0
        worth = prices.worth(name, one.cost, one.time, knowledge)
        dropped = why_dropped(one.finite, one.bad, one.temperature, own, worth)
        found.append(teacher_probe(name, worth, dropped=dropped, **_figures(one, measured)))
    rows = sum(one.count for one in student)
    return Probe(tuple(found), head, rows, chance, own, prices.share, outputs, prices.step_flops)


def _figures(one: Measured, all_of_them: list[Measured]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {"cost": one.cost, "time": one.time, "temperature": one.temperature}
    figures["grace"] = one.grace
    if one.finite is None:
        return figures
    hits = [_same(evidence.choices(), evidence.right()) for evidence in one.finite]
    others = [_agreement(one.finite, other.finite) for other in all_of_them if other is not one and other.finite]
    agreements = [value for value in others if value is not None]
    return figures | {
        "loss": mean_of_heads([evidence.losses() for evidence in one.finite]),
        "calibrated_loss": one.calibrated,
        "brier": one.brier,
        "accuracy": None if any(value is None for value in hits) else sum(filter(None, hits)) / len(hits),
        "agreement": sum(agreements) / len(agreements) if agreements else None,
    }


def _agreement(first: list[Evidence], second: list[Evidence]) -> float | None:
    """Only of those whose every output was finite: of others nobody knows any more which rows they are of."""
    pairs = list(zip(first, second, strict=True))
    if any(a.count != b.count for a, b in pairs):
        return None
    shares = [_same(a.choices(), b.choices()) for a, b in pairs]
    return None if any(share is None for share in shares) else sum(filter(None, shares)) / len(shares)


def _same(first: Tensor | None, second: Tensor | None) -> float | None:
    return None if first is None or second is None else float((first == second).double().mean())
