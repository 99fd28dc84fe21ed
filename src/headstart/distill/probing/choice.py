"""What a probe's figures make of the settings: whom to ask, how often, and at which temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headstart.distill.probing.calibrating import SHARPEST
from headstart.distill.probing.record import Probe, TeacherProbe
from headstart.distill.probing.worth import FEW, cadence

SOFT, HARD = 4.0, 1.0  # T of the loss, with few classes and with many
LIGHT, HEAVY = 0.5, 0.9  # the weight of the distillation loss; where labels are mostly noise
_TENTHS = 10  # weights are whole tenths of the largest: figures of a probe are no more precise
_DIGITS = 3  # of a temperature
_BEST, _WORST = 1e-3, 2.0  # Brier scores; the best one is reached by nobody


@dataclass(frozen=True)
class Choice:
    """Whom to ask, how often, at which temperature, and how much to go by it.

    Attributes:
        weights: Of each teacher by name, in the order that they were given in: tenths of the best one's, 0 for those
            left out.
        temperatures: Of each, what calibrates it; none where there are no temperatures.
        every: Ask on every k-th step of the window.
        temperature: T of the loss, of teachers so calibrated.
        weight: Of the loss.
        cap: The fraction of training at which the window closes at the latest.
        open_at: The student's Brier score at which the window opens; None: at once.
        reasons: Sentences, for people.
    """

    weights: dict[str, float]
    temperatures: dict[str, float]
    every: int
    temperature: float
    weight: float
    cap: float
    open_at: float | None
    reasons: tuple[str, ...]

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of those asked."""
        return tuple(name for name, weight in self.weights.items() if weight)


def choose(probe: Probe, fixed: Mapping[str, float] | None = None) -> Choice:
    """The settings that follow from a probe; a pure function of it, so that all processes and a resumed run agree.

    Weights go by what each teacher may gain: its speed-up above 1, beside the best one's. The pool is asked on
    every step unless that, in the mean, takes more than the student's step itself. Both go by FLOPs, which do not
    depend on the clock, wherever these can be counted.

    T of the loss is 4 where there are few classes, 1 where there are many, as in vocabularies: of thousands a softened
    teacher says mostly that they are many. Its weight is 0.5, or 0.9 where labels are mostly noise (`Probe.noisy`).
    docs/auto.md has the races of both.

    A teacher is not made more than twice as sharp as it is: where it is right in nearly all rows, as in those that it
    has been trained on, the likeliest temperature says little of others.

    Args:
        probe: It.
        fixed: Weights of the teachers by name, where they are not left to it: all of these are asked, and the other
            settings are for that.
    """
    gains = {teacher.name: teacher.speed_up - 1.0 for teacher in probe.kept}
    best = max(gains.values(), default=0.0)
    found = {teacher.name: _weight(gains.get(teacher.name, 0.0), best) for teacher in probe.teachers}
    weights = found if fixed is None else dict(fixed)
    asked = [teacher for teacher in probe.teachers if weights[teacher.name]]
    known = {teacher.name: teacher.temperature for teacher in probe.teachers if teacher.temperature is not None}
    temperatures = {name: float(f"{max(SHARPEST, value):.{_DIGITS}g}") for name, value in known.items()}
    cost = _mean({teacher.name: _cost(teacher) for teacher in asked}, weights) if asked else 0.0
    every = cadence(cost)
    temperature = SOFT if probe.outputs <= FEW else HARD
    weight = HEAVY if probe.noisy else LIGHT
    open_at, cap = _open_at(asked, weights), _cap(asked, weights)
    reasons = _reasons(probe, weights, temperatures, every, cost, open_at)
    if asked:
        reasons = (*reasons, _of_the_loss(probe, temperature, weight))
    if cap < 1.0:
        ahead = f"from {cap:.0%} of training on the student knows as much, by what went into both: no asking from there"
        reasons = (*reasons, ahead)
    return Choice(weights, temperatures, every, temperature, weight, cap, open_at, reasons)


def _of_the_loss(probe: Probe, temperature: float, weight: float) -> str:
    classes = f"{probe.outputs} {'classes' if probe.head == 'classes' else 'outputs'}"
    why = "labels are mostly noise, which teachers spare" if probe.noisy else "labels are not mostly noise"
    if probe.head == "values":
        return f"weight of the loss: {weight:g}"
    return f"T of the loss: {temperature:g}, as there are {classes}; its weight: {weight:g}, as {why}"


def _open_at(asked: list[TeacherProbe], weights: dict[str, float]) -> float | None:
    """The mean of what each is to be asked at; None where one need not be waited for, or the worst score will do."""
    scores = {teacher.name: teacher.open_at for teacher in asked}
    known = {name: score for name, score in scores.items() if score is not None}
    if not known or len(known) < len(scores):
        return None
    mean = _mean(known, weights)
    return float(f"{max(_BEST, mean):.{_DIGITS}g}") if mean < _WORST else None


def _cap(asked: list[TeacherProbe], weights: dict[str, float]) -> float:
    """The mean of how long each stays ahead."""
    return float(f"{_mean({teacher.name: teacher.until for teacher in asked}, weights):.2g}") if asked else 1.0


def _mean(values: dict[str, float], weights: dict[str, float]) -> float:
    """Of what teachers have by name, each as often as it is asked."""
    return sum(weights[name] * value for name, value in values.items()) / sum(weights[name] for name in values)


def _weight(gain: float, best: float) -> float:
    return round(_TENTHS * gain / best) / _TENTHS if gain > 0.0 else 0.0


def _cost(teacher: TeacherProbe) -> float:
    return (teacher.time if teacher.cost is None else teacher.cost) or 0.0


def _reasons(
    probe: Probe,
    weights: dict[str, float],
    temperatures: dict[str, float],
    every: int,
    cost: float,
    open_at: float | None,
) -> tuple[str, ...]:
    lines = []
    for teacher in probe.ranked:
        if weights[teacher.name] and teacher.dropped is not None:
            lines.append(f"{teacher.name}: asked as its weight is set, though of no use: {teacher.dropped}")
        elif weights[teacher.name]:
            calibrated = f", calibrated by T = {temperatures[teacher.name]:g}" if teacher.name in temperatures else ""
            lines.append(
                f"{teacher.name}: asked, weight {weights[teacher.name]:g}{calibrated}; may save {teacher.saving:.0%} "
                f"of the steps, must save {teacher.break_even:.0%}"
            )
        else:
            why = teacher.dropped or "it may gain too little beside the best one"
            lines.append(f"{teacher.name}: not asked: {why}")
    if any(weights.values()):
        how_often = "on every step" if every == 1 else f"on every step number {every}"
        lines.append(f"asked {how_often} of the window, at {cost:.2f} of the student's step each")
        if open_at is not None:
            lines.append(
                f"the window opens once the student's Brier score is {open_at:g}: before, so little of what labels say "
                "is noise that asking costs more than it saves"
            )
    else:
        lines.append("no teacher is of use: training goes on without distillation")
    return tuple(lines)
