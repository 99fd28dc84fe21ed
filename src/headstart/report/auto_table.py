"""What automatic settings came to: which teachers were asked, how, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from headstart.records import RaceRecord, RunRecord
from headstart.report import figures
from headstart.report.figures import NOTHING
from headstart.report.result_tables import Column, Table

_CHOSEN = ("temperature", "weight", "start", "stop", "every")  # settings that are told
_MEASURED = ("open_at", "cap")  # and those that differ a little from run to run
_PLAIN = {"start": 0.0, "every": 1}  # which are not worth a word


def auto_table(record: RaceRecord) -> Table:
    """One row for each arm and each kind of choice that its runs made by a look at their teachers.

    Where runs of one arm ask other teachers, or with other settings, each choice has a row. Numbers that a look
    measures (a teacher's temperature, the score that opens the window) differ a little from run to run, and
    stand as ranges.
    """
    columns = (
        Column("Arm", "label"),
        Column("Runs", "text"),
        Column("Asks", "text"),
        Column("Settings", "text"),
        Column("Because", "text"),
        Column("Raw seconds"),
    )
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for arm in record.arms:
        for run in record.runs:
            if run.arm == arm.name and run.auto is not None:
                groups.setdefault((arm.name, *_kind(_section(run))), []).append(run)
    rows = [
        [arm, _which(runs, record.budget_unit), _asked(runs), _settings(runs), _because(runs), _seconds(runs)]
        for (arm, *_), runs in groups.items()
    ]
    caption = (
        "What automatic settings chose by a look at the teachers before the first step; its seconds are a part of "
        "the runs'. Each run's auto.json has it as settings to copy; the reasons are those of the first run."
    )
    return Table(caption, columns, rows)


def _section(run: RunRecord) -> Mapping[str, Any] | None:
    """The chosen section; None: no teacher is of use."""
    assert run.auto is not None
    return run.auto.distill


def _sections(runs: list[RunRecord]) -> list[Mapping[str, Any]]:
    return [section for run in runs if (section := _section(run)) is not None]


def _kind(section: Mapping[str, Any] | None) -> tuple[str, ...]:
    """By what choices count as the same: teachers, and the settings that are not measured."""
    if section is None:
        return ()
    rest = {key: value for key, value in section.items() if key not in ("teachers", *_MEASURED)}
    return (*map(_spec, section["teachers"]), repr(rest))


def _spec(entry: str | Mapping[str, Any]) -> str:
    return entry if isinstance(entry, str) else str(entry["spec"])


def _asked(runs: list[RunRecord]) -> str:
    entries = [section["teachers"] for section in _sections(runs)]
    return ", ".join(map(_teacher, zip(*entries, strict=True))) if entries else "no teacher"


def _teacher(entries: tuple[Any, ...]) -> str:
    """A teacher, and the temperature that calibrates it."""
    found = _range(entry.get("temperature") for entry in entries if isinstance(entry, Mapping))
    return _spec(entries[0]) + (f" (calibrated by T = {found})" if found else "")


def _settings(runs: list[RunRecord]) -> str:
    sections = _sections(runs)
    if not sections:
        return NOTHING
    chosen = ((key, sections[0].get(key)) for key in _CHOSEN)
    told = [f"{key} {_number(value)}" for key, value in chosen if value not in (None, _PLAIN.get(key))]
    measured = ((key, _range(section.get(key) for section in sections)) for key in _MEASURED)
    return ", ".join([*told, *(f"{key} {found}" for key, found in measured if found)])


def _range(values: Iterable[object]) -> str:
    """`0.93 to 0.95`, one number where there is but one, nothing where there is none.

    Example:
        >>> _range([0.951, 0.93, None]), _range([0.5, 0.5]), _range([None])
        ('0.93 to 0.951', '0.5', '')
    """
    numbers = sorted({value for value in values if isinstance(value, float)})
    return " to ".join(_number(value) for value in dict.fromkeys((numbers[0], numbers[-1]))) if numbers else ""


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _which(runs: list[RunRecord], unit: str) -> str:
    """Budgets, each with its seeds."""
    seeds: dict[float, list[str]] = {}
    for run in sorted(runs, key=lambda run: (run.budget, run.seed)):
        seeds.setdefault(run.budget, []).append(str(run.seed))
    return "; ".join(
        f"{figures.budget(budget, unit)}, seed{'s' if len(each) > 1 else ''} {', '.join(each)}"
        for budget, each in seeds.items()
    )


def _because(runs: list[RunRecord]) -> str:
    assert runs[0].auto is not None
    return "; ".join(runs[0].auto.reasons) or NOTHING


def _seconds(runs: list[RunRecord]) -> str:
    return figures.seconds(fmean(run.auto.seconds for run in runs if run.auto is not None))
