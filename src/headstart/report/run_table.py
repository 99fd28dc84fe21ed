"""The table of single runs, with links to what they left behind."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from headstart.race.statistics.costs import run_cost
from headstart.records import OpenedRecord, RaceRecord, RunRecord, StoppedRecord
from headstart.report import figures
from headstart.report.figures import NOTHING, QualityScale
from headstart.report.result_tables import Cell, Column, Link, Table, or_nothing

_FILES = ("record.json", "auto.json", "metrics.jsonl", "recipe.yaml", "output.log", "traceback.txt")


def run_table(record: RaceRecord, folder: Path | None) -> Table:
    """One row for each run, by arm, budget and seed; links are relative to the race folder, where the report lies.

    Args:
        record: The race.
        folder: The race folder, to see which files there are; None: no links.
    """
    scale = QualityScale.of(record)
    columns = (
        Column("Run", "label"),
        Column(figures.capitalised(scale.label)),
        Column("Raw seconds"),
        Column("Calibrated seconds"),
        Column("Energy"),
        Column("Distilled from", "text"),
        Column("Distilled until", "text"),
        Column("Files", "text"),
    )
    places = {arm.name: place for place, arm in enumerate(record.arms)}
    runs = sorted(record.runs, key=lambda run: (places.get(run.arm, len(places)), run.budget, run.seed))
    table = Table("Every run.", columns, [_row(run, record, scale, folder) for run in runs])
    return table.without_empty("Calibrated seconds", "Energy", "Distilled from", "Distilled until", "Files")


def race_files(folder: Path | None) -> list[Link]:
    """Links to what the race itself left behind."""
    names = ["race.json", *(sorted(path.name for path in folder.glob("*.svg")) if folder else [])]
    return _links(folder, "", names)


def _row(run: RunRecord, record: RaceRecord, scale: QualityScale, folder: Path | None) -> list[Cell]:
    name = f"{run.arm}, {figures.budget(run.budget, record.budget_unit)}, seed {run.seed}"
    return [
        name,
        scale.number(run.quality),
        figures.seconds(run.seconds),
        or_nothing(run_cost(run, "calibrated", record.calibration), figures.seconds),
        or_nothing(run.energy_joules, figures.energy),
        NOTHING if run.opened is None else _from(run.opened),
        NOTHING if run.stopped is None else _until(run.stopped),
        tuple(_links(folder, run.folder, _FILES)) if run.folder else (),
    ]


def _from(opened: OpenedRecord) -> str:
    return "never" if opened.step is None else f"step {opened.step}"


def _until(stopped: StoppedRecord) -> str:
    return f"step {stopped.end} of {stopped.total_steps}: {stopped.reason}"


def _links(folder: Path | None, below: str, names: tuple[str, ...] | list[str]) -> list[Link]:
    """Links to those of the files that are there; nothing outside the race folder is linked."""
    if folder is None or os.path.isabs(below) or ".." in Path(below).parts:
        return []
    # With ./ in front no name is taken for the scheme of an address.
    return [
        Link(name, quote(f"./{below}/{name}" if below else f"./{name}"))
        for name in names
        if (folder / below / name).is_file()
    ]
