"""The table of what was tried before a race to give each arm its own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.config import settings_told
from headstart.records import RaceRecord, Tuning
from headstart.report import figures
from headstart.report.figures import NOTHING, QualityScale
from headstart.report.result_tables import Column, Table, or_nothing
from headstart.report.tuning import edges, spent


def tuning_table(record: RaceRecord) -> Table:
    """One row for each arm and setting tried, and one for each setting that was given without a choice."""
    scale = QualityScale.of(record)
    tuning = record.tuning or Tuning(budget=0.0, samples=0)
    columns = (
        Column("Arm", "label"),
        Column("Settings", "text"),
        Column("Runs"),
        Column(f"{figures.capitalised(tuning.metric)} on the samples set aside"),
        Column("Raw seconds"),
        Column("FLOPs"),
        Column("Chosen", "text"),
    )
    rows = [_row(tuning, arm, values, scale) for arm, values in _tried(tuning)]
    budget = figures.budget(tuning.budget, record.budget_unit)
    caption = (
        f"Short runs ({budget}) before the race, judged on {tuning.samples:,} training samples that nobody trains on "
        "and no race is judged by."
    )
    return Table(caption, columns, rows)


def _tried(tuning: Tuning) -> list[tuple[str, Mapping[str, Any]]]:
    """Arms with their settings, each once, in the order in which they were tried; then what was given."""
    tried = [(trial.arm, trial.values) for trial in tuning.trials] + list(tuning.chosen.items())
    return [pair for place, pair in enumerate(tried) if pair not in tried[:place]]


def _row(tuning: Tuning, arm: str, values: Mapping[str, Any], scale: QualityScale) -> list[str]:
    trials = [trial for trial in tuning.trials if trial.arm == arm and trial.values == values]
    qualities = [trial.quality for trial in trials if trial.quality is not None]
    quality = NOTHING
    if trials:
        whole = len(qualities) == len(trials)
        quality = scale.number(sum(qualities) / len(qualities)) if whole else "diverged"
    chosen = NOTHING
    if tuning.chosen.get(arm) == values:
        at_edge = [f"{edge.key} is the {edge.side} tried" for edge in edges(tuning) if edge.arm == arm]
        chosen = "; ".join(["yes" if trials else "given", *at_edge])
    counted = bool(trials) and all(trial.flops is not None for trial in trials)
    return [
        arm,
        settings_told(values),
        str(len(trials)),
        quality,
        figures.seconds(spent(trials, "seconds")) if trials else NOTHING,
        or_nothing(spent(trials, "flops") if counted else None, figures.operations),
        chosen,
    ]
