"""The tables of what was raced and where: arms, how their recipes differ, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headstart.config import flat
from headstart.records import Arm, RaceRecord, RunRecord
from headstart.report import figures
from headstart.report.figures import NOTHING
from headstart.report.result_tables import Column, Table


def arm_table(record: RaceRecord) -> Table:
    """One row for each arm: its part in the race, and what it was raced at."""
    columns = (
        Column("Arm", "label"),
        Column("Part", "label"),
        Column("Description", "text"),
        Column("Budgets", "text"),
        Column("Seeds", "text"),
    )
    parts = {record.baseline: "baseline", record.primary: "primary"}
    rows = [
        [
            arm.name,
            parts.get(arm.name, NOTHING),
            arm.description or NOTHING,
            ", ".join(figures.plain_number(value) for value in record.budgets_of(arm)),
            ", ".join(str(seed) for seed in record.seeds_of(arm)),
        ]
        for arm in record.arms
    ]
    unit = "" if record.budget_unit == "budget" else f", budgets in {record.budget_unit}"
    cycles = "; the budgets of a seed are points of one training in cycles" if record.curve == "cyclic" else ""
    return Table(f"The arms of the race{unit}{cycles}.", columns, rows)


def difference_table(record: RaceRecord) -> Table:
    """One row for each setting that is not the same in all arms; budget and seed are no part of a recipe.

    Read from the resolved recipes of the runs; where these have none, from the arms' overrides.
    """
    columns = (Column("Setting", "label"), *(Column(arm.name, "text") for arm in record.arms))
    resolved = [_common(_settings_of(record, arm)) for arm in record.arms]
    if not all(resolved):
        resolved = [_set(arm.overrides) for arm in record.arms]
    rows = [
        [key, *(_written(settings[key]) if key in settings else NOTHING for settings in resolved)]
        for key in dict.fromkeys(key for settings in resolved for key in settings)
        if len({_written(settings[key]) if key in settings else NOTHING for settings in resolved}) > 1
    ]
    return Table("What is not the same in all arms; a dash where an arm has no such setting.", columns, rows)


def environment_table(record: RaceRecord) -> Table:
    """The environment, a row an entry; where runs had another than the race itself (its calibration), both."""
    race, runs = record.environment, [run.environment for run in record.runs if run.environment]
    keys = dict.fromkeys([*race, *(key for environment in runs for key in environment)])
    found = {key: list(dict.fromkeys(environment.get(key, NOTHING) for environment in runs)) for key in keys}
    if not runs or all(found[key] == [race.get(key)] for key in keys):
        return Table("Where the race was run.", _environment_columns("Value"), [[key, race[key]] for key in race])
    rows = [[key, race.get(key, NOTHING), "; ".join(found[key])] for key in keys]
    return Table("Where the race was run.", _environment_columns("Race and calibration", "Runs"), rows)


def _environment_columns(*names: str) -> tuple[Column, ...]:
    return (Column("Environment", "label"), *(Column(name, "text") for name in names))


def _settings_of(record: RaceRecord, arm: Arm) -> list[RunRecord]:
    return [run for run in record.runs if run.arm == arm.name and run.settings]


def _common(runs: list[RunRecord]) -> dict[str, Any]:
    """The settings that are the same in all runs of an arm: the others are its budgets and seeds."""
    each = [_set(run.settings) for run in runs]
    same = {key for key in (each[0] if each else ()) if all(key in one and one[key] == each[0][key] for one in each)}
    return {key: each[0][key] for key in each[0] if key in same} if each else {}


def _set(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key; what is not set at all is left out.

    Example:
        >>> _set({"train": {"lr": 0.1, "clip_norm": None}, "distill": {"teachers": ["old"]}})
        {'train.lr': 0.1, 'distill.teachers': ['old']}
    """
    return {key: value for key, value in flat(settings).items() if value is not None}


def _written(value: Any) -> str:
    """A setting in a cell: a list without brackets, a mapping in it without what is not set."""
    if isinstance(value, list):
        return ", ".join(_written(item) for item in value)
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_written(item)}" for key, item in value.items() if item is not None)
    return value if isinstance(value, str) else json.dumps(value)
