"""What a probe found: of each teacher, and of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headstart.distill.heads.head import Head
from headstart.distill.probing.worth import MORE, MOST, Worth, mostly_noise

COLUMNS = ("teacher", "loss", "right", "T", "at T", "agrees", "cost", "time", "every", "must save", "may save", "gain")


@dataclass(frozen=True)
class TeacherProbe:
    """One teacher on labelled rows.

    Attributes:
        name: Its name.
        loss: Its task loss; None where nothing it gave was finite.
        accuracy: The fraction of rows (of labels: outputs) where its choice is the label; None for values.
        temperature: What calibrates it: its logits divided by this make the labels likeliest. None for values, which
            have no temperature.
        calibrated_loss: Its task loss then; of values the loss as it is.
        brier: Its Brier score, the mean of `|probabilities - label|^2`, calibrated as it is to be asked; None where
            there are no classes.
        agreement: The fraction of rows where its choice is another teacher's, mean over the others; None without such.
        cost: The FLOPs of its forward over those of the student's forward and backward; None where uncounted.
        time: The same in seconds, measured here; None where it was not.
        every: On every how many steps of the window it should be asked, for its cost.
        break_even: The fraction of steps that it must save so that asking it pays.
        saving: The fraction that it may save, by the rule of `worth_of`.
        speed_up: How many times as fast training may get by that, the cost counted in; teachers are ranked by it.
        until: The fraction of training at which the student has caught up with it, by the compute of both.
        dropped: Why it is of no use; None where it is.
        grace: The score of GRACE, lower is better, where it was asked for.
    """

    name: str
    loss: float | None
    accuracy: float | None
    temperature: float | None
    calibrated_loss: float | None
    agreement: float | None
    cost: float | None
    time: float | None
    every: int
    break_even: float
    saving: float
    speed_up: float
    dropped: str | None = None
    grace: float | None = None
    brier: float | None = None
    until: float = 1.0

    @property
    def open_at(self) -> float | None:
        """The student's Brier score from which on asking it may pay (docs/auto.md); None where there is no such score.

        The student's score is the squared length of the gradient that labels pull with at the logits. As much of it as
        a teacher's own score is noise, which a teacher spares. That part, times `MORE`, of the steps from then on it
        may save, but for what it does not know, and where it does not stay ahead.
        """
        price = self.cost if self.cost is not None else self.time
        if self.brier is None or not price:
            return None
        ahead = self.saving * self.every / MOST  # of a step that asks, from then on, whatever the window's share
        return MORE * self.brier * ahead * (1.0 + price) / price

    def cells(self) -> tuple[str, ...]:
        """Its row of a table with `COLUMNS`."""
        if self.dropped is None:
            worth = (str(self.every), f"{self.break_even:.1%}", f"{self.saving:.1%}", f"{self.speed_up:.2f}x")
        else:
            worth = ("", f"{self.break_even:.1%}", "", "dropped")
        return (
            self.name,
            _number(self.loss),
            "-" if self.accuracy is None else f"{self.accuracy:.1%}",
            "-" if self.temperature is None else f"{self.temperature:.3g}",
            _number(self.calibrated_loss),
            "-" if self.agreement is None else f"{self.agreement:.0%}",
            "?" if self.cost is None else f"{self.cost:.2f}",
            "-" if self.time is None else f"{self.time:.2f}",
            *worth,
        )


@dataclass(frozen=True)
class Probe:
    """What a look at teachers found. `print` it for a table.

    Attributes:
        teachers: In the order that they were given in.
        head: What a row means.
        rows: How many labelled rows (of labels and values: outputs) were looked at; 0 where no teacher was.
        chance_loss: The task loss that the labels' frequencies alone give, of values their mean; None without rows.
        student_loss: That of the student as it is now; None without rows.
        share: The fraction of the training's steps in the window.
        outputs: Of a row, as many as the student has; of several heads the most. 0 where it was not asked.
        step_flops: Of the student's forward and backward on the first batch; None where they cannot be counted.

    Example:
        >>> from headstart.distill.probing.worth import worth_of
        >>> worth = worth_of(knowledge=1.0, reach=1.0, cost=1 / 3, share=0.5)
        >>> found = teacher_probe("old", worth, loss=0.3, accuracy=0.9, temperature=1.2, calibrated_loss=0.28, cost=0.3)
        >>> probe = Probe((found,), "classes", 1000, 2.3, 2.4, 0.5, outputs=10)
        >>> [teacher.name for teacher in probe.ranked], probe.kept == (found,)
        (['old'], True)
    """

    teachers: tuple[TeacherProbe, ...]
    head: Head
    rows: int
    chance_loss: float | None
    student_loss: float | None
    share: float
    outputs: int
    step_flops: float | None = None

    @property
    def kept(self) -> tuple[TeacherProbe, ...]:
        """Those that are of use, in their order."""
        return tuple(teacher for teacher in self.teachers if teacher.dropped is None)

    @property
    def ranked(self) -> tuple[TeacherProbe, ...]:
        """All of them: first those of use, by what they may gain; then those dropped, the best ones first."""
        return tuple(sorted(self.teachers, key=lambda one: (one.dropped is not None, -one.speed_up)))

    @property
    def noisy(self) -> bool:
        """Whether labels are mostly noise, as far as a look at the teachers tells."""
        best = min((teacher.brier for teacher in self.teachers if teacher.brier is not None), default=0.0)
        return mostly_noise(self.head, self.outputs, best)

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        return asdict(self)

    def notes(self) -> list[str]:
        """Sentences that go with the table: what was looked at."""
        what = "rows" if self.head == "classes" else "outputs"
        if self.chance_loss is None or self.student_loss is None:
            return ["nothing was asked, as no teacher can be worth its cost, whatever it knows"]
        lines = [
            f"{self.rows} labelled {what}; loss by the labels' frequencies alone {self.chance_loss:.3f}, the student's "
            f"now {self.student_loss:.3f}; window: {self.share:.0%} of the steps"
        ]
        if self.head == "values":
            lines.append("values have no temperature: a number is as far off as it is")
        return lines

    def __str__(self) -> str:
        table = [COLUMNS, *(teacher.cells() for teacher in self.ranked)]
        widths = [max(len(row[place]) for row in table) for place in range(len(COLUMNS))]
        dropped = [f"{teacher.name}: {teacher.dropped}" for teacher in self.ranked if teacher.dropped]
        return "\n".join([*(_line(row, widths) for row in table), *self.notes(), *dropped])


def teacher_probe(name: str, worth: Worth, *, dropped: str | None = None, **measured: float | None) -> TeacherProbe:
    """A teacher's record of its worth and what was measured of it; what was not is None."""
    fields: dict[str, float | None] = dict.fromkeys(
        ("loss", "accuracy", "temperature", "calibrated_loss", "agreement", "cost", "time", "grace", "brier")
    )
    return TeacherProbe(
        name,
        every=worth.every,
        break_even=worth.break_even,
        saving=worth.saving,
        speed_up=worth.speed_up,
        until=worth.until,
        dropped=dropped,
        **(fields | measured),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *others = cells
    return "  ".join([name.ljust(widths[0]), *map(str.rjust, others, widths[1:])]).rstrip()
