"""The tables of a report's figures, as plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from headstart.records import ArmResult, Clock, RaceRecord, StepTime, TeacherCost
from headstart.report import figures
from headstart.report.cells import Cell as RaceCell
from headstart.report.cells import summarise
from headstart.report.figures import CLOCK_NAMES, NOTHING, QualityScale
from headstart.report.loaded import loaded_text

_INTERVAL = "95\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}interval"
V = TypeVar("V", int, float)


@dataclass(frozen=True)
class Column:
    """A column's head, and what stands below it: numbers, labels that must not be broken, or text that may be."""

    name: str
    kind: Literal["number", "label", "text"] = "number"


@dataclass(frozen=True)
class Link:
    """A file to open: its name, and its address relative to the page."""

    text: str
    address: str


Cell = str | tuple[Link, ...]


@dataclass(frozen=True)
class Table:
    """A table of text and links; the first column names its rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]

    def without_empty(self, *names: str) -> Table:
        """The table without those of the named columns that hold nothing."""
        kept = [
            place
            for place, column in enumerate(self.columns)
            if column.name not in names or any(row[place] not in (NOTHING, ()) for row in self.rows)
        ]
        columns = tuple(self.columns[place] for place in kept)
        return Table(self.caption, columns, [[row[place] for place in kept] for row in self.rows])


def result_tables(record: RaceRecord) -> list[Table]:
    """One table for each clock that the race was judged on, the headline clock first; in it one row for each arm."""
    clocks = sorted(CLOCK_NAMES, key=lambda clock: clock != record.headline_clock)
    judged = {clock: [result for result in record.results if result.clock == clock] for clock in clocks}
    return [_result_table(record, clock, results) for clock, results in judged.items() if results]


def cell_table(record: RaceRecord) -> Table:
    """One row for each arm and budget, arm by arm."""
    scale = QualityScale.of(record)
    columns = (
        Column("Arm", "label"),
        Column("Budget", "label"),
        Column("Runs"),
        Column("Failed"),
        Column(figures.capitalised(scale.label)),
        Column("Standard deviation"),
        Column("Raw seconds"),
        Column("Calibrated seconds"),
        Column("Teachers' part of the seconds"),
        Column("FLOPs"),
        Column("Teachers' part of the FLOPs"),
        Column("Energy"),
    )
    cells = [cell for row in summarise(record) for cell in row]
    rows = [_cell_row(cell, scale, record.budget_unit) for arm in record.arms for cell in cells if cell.arm == arm.name]
    return Table("Means over the seeds of each arm and budget.", columns, rows).without_empty("Energy")


def teacher_table(record: RaceRecord) -> Table:
    """One row for each teacher that a run names, with the arms that used it."""
    scale = QualityScale.of(record)
    columns = (
        Column("Teacher", "label"),
        Column("Used by", "text"),
        Column(figures.capitalised(scale.label)),
        Column("Parameters"),
        Column("Training, raw seconds"),
        Column("Training, FLOPs"),
        Column("Making its cache, raw seconds"),
    )
    users: list[tuple[TeacherCost, list[str]]] = []
    for run in record.runs:
        for teacher in run.teachers:
            arms = next((arms for known, arms in users if known == teacher), None)
            if arms is None:
                users.append((teacher, [run.arm]))
            elif run.arm not in arms:
                arms.append(run.arm)
    rows = [_teacher_row(*user, scale) for user in users]
    return Table("The teachers, and what making them cost.", columns, rows).without_empty(columns[-1].name)


def failure_table(record: RaceRecord) -> Table:
    """One row for each run that failed, with its message."""
    columns = (
        Column("Arm", "label"),
        Column("Budget", "label"),
        Column("Seed"),
        Column("Message", "text"),
    )
    rows = [
        [failure.arm, figures.budget(failure.budget, record.budget_unit), str(failure.seed), failure.message]
        for failure in record.failures
    ]
    return Table("They are left out of every figure; the other runs went on.", columns, rows)


def step_table(record: RaceRecord) -> Table:
    """One row for each calibrated kind of step."""
    columns = (
        Column("Kind of step", "label"),
        Column("Median, ms"),
        Column("95 % interval"),
        Column("Steps timed"),
        Column("Data part, ms"),
        Column("Teacher part, ms"),
    )
    if record.calibration is None:
        return Table("", columns, [])
    device = f" on {record.calibration.device}" if record.calibration.device else ""
    rows = [_step_row(kind, step) for kind, step in record.calibration.kinds.items()]
    return Table(f"Step times as calibrated{device}.", columns, rows)


def speedup_text(result: ArmResult) -> str:
    """A result's speed-up, or its status where it has none."""
    if result.speedup is None:
        return result.status
    return ("at least " if result.status == "at least" else "") + figures.times(result.speedup.value)


def or_nothing(value: V | None, write: Callable[[V], str]) -> str:
    """A figure as `write` writes it; a dash where there is none."""
    return NOTHING if value is None else write(value)


def _result_table(record: RaceRecord, clock: Clock, results: Sequence[ArmResult]) -> Table:
    scale = QualityScale.of(record)
    equal = "FLOPs" if clock == "flops" else "time"
    columns = (
        Column("Arm", "label"),
        Column("Verdict", "label"),
        Column(f"Speed-up ({_INTERVAL})"),
        Column("Baseline's best costs"),
        Column("Arm gets there for"),
        Column(f"Gain at equal {equal}" + (", points" if scale.percent else "") + f" ({_INTERVAL})"),
        Column("Teachers' training"),
        Column("Teachers counted in"),
        Column("Breaks even after"),
    )
    caption = f"Speed-up to the baseline's best, and gain in {scale.metric} at equal {equal}, in {CLOCK_NAMES[clock]}."
    return Table(caption, columns, [_result_row(record, result, scale) for result in results])


def _result_row(record: RaceRecord, result: ArmResult, scale: QualityScale) -> list[str]:
    clock, speedup, gain = result.clock, result.speedup, result.gain
    return [
        result.arm,
        NOTHING if result.status == "no data" else result.verdict,
        speedup_text(result) + figures.in_brackets(figures.speedup_interval(speedup) if speedup else ""),
        or_nothing(result.baseline_cost, lambda value: figures.amount(value, clock)),
        or_nothing(result.arm_cost, lambda value: figures.amount(value, clock)),
        NOTHING if gain is None else scale.signed(gain.value) + figures.in_brackets(figures.gain_interval(gain, scale)),
        or_nothing(result.teacher_cost, lambda value: figures.amount(value, clock)),
        loaded_text(record, result),
        or_nothing(result.break_even, lambda number: figures.count(number, "training")),
    ]


def _cell_row(cell: RaceCell, scale: QualityScale, unit: str) -> list[str]:
    split = cell.split
    return [
        cell.arm,
        figures.budget(cell.budget, unit),
        str(cell.n),
        str(cell.failed),
        or_nothing(cell.quality, scale.number),
        or_nothing(cell.sd, scale.number),
        or_nothing(cell.seconds, figures.seconds),
        figures.seconds(split.total) if split else NOTHING,
        figures.share(split.teacher, split.total) if split else NOTHING,
        or_nothing(cell.flops, figures.operations),
        or_nothing(cell.teacher_share, lambda value: figures.share(value, 1.0)),
        or_nothing(cell.energy, figures.energy),
    ]


def _teacher_row(teacher: TeacherCost, arms: list[str], scale: QualityScale) -> list[str]:
    return [
        teacher.name,
        ", ".join(arms),
        or_nothing(teacher.quality, scale.number),
        or_nothing(teacher.parameters, "{:,}".format),
        or_nothing(teacher.seconds, figures.seconds),
        or_nothing(teacher.flops, figures.operations),
        or_nothing(teacher.cache_seconds, figures.seconds),
    ]


def _step_row(kind: str, step: StepTime) -> list[str]:
    def milliseconds(seconds: float) -> str:
        return f"{1000 * seconds:#.3g}".rstrip(".")

    interval = NOTHING
    if step.low is not None and step.high is not None:
        interval = f"{milliseconds(step.low)} to {milliseconds(step.high)}"
    parts = [milliseconds(part) if part else NOTHING for part in (step.data_seconds, step.teacher_seconds)]
    return [kind, milliseconds(step.seconds), interval, str(step.n), *parts]
