"""A race as a table, for pandas, polars, or a spreadsheet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.race.statistics.costs import run_cost
from headstart.records import RaceRecord, RunRecord, read_record

RACE = "race.json"


def read_race(folder: str | os.PathLike[str]) -> RaceRecord:
    """Read the record of a race.

    Args:
        folder: The race folder, or its `race.json`.

    Raises:
        HeadstartError: There is no such file, or it holds no race.
    """
    path = Path(folder) if Path(folder).is_file() else Path(folder) / RACE
    if not path.exists():
        raise HeadstartError(f"{folder}: holds no {RACE}; give a folder that headstart race has written (its --out)")
    return read_record(RaceRecord, path)


def race_table(race: RaceRecord | str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The runs of a race as rows: `pandas.DataFrame(headstart.race_table("runs/mine"))`, `polars.DataFrame(...)`.

    Args:
        race: A race folder, its `race.json`, or the record itself.

    Returns:
        One row for each finished run, all with the same keys: `arm`, `budget`, `seed`, `metric`, `quality`, `seconds`,
        `calibrated_seconds`, `flops`, `teacher_flops`, `teacher_seconds`, `energy_joules`, `memory_bytes`, `folder`;
        `steps.KIND` for every kind of step and `losses.NAME` for every further loss in the race. None where it is not
        known, 0 for a kind of step that a run took none of.

    Raises:
        HeadstartError: As `read_race`.

    Example:
        >>> from headstart.records import Arm
        >>> runs = [RunRecord(arm="a", budget=1, seconds=3, quality=0.5, steps={"plain": 7})]
        >>> arms = [Arm(name="a"), Arm(name="b")]
        >>> race = RaceRecord(arms=arms, baseline="a", primary="b", budgets=[1], seeds=[0], runs=runs)
        >>> [(row["arm"], row["seconds"], row["steps.plain"]) for row in race_table(race)]
        [('a', 3.0, 7)]
    """
    record = race if isinstance(race, RaceRecord) else read_race(race)
    kinds = dict.fromkeys(kind for run in record.runs for kind in run.steps)
    losses = dict.fromkeys(name for run in record.runs for name in run.losses)
    return [
        {
            **_row(run, record),
            **{f"steps.{kind}": run.steps.get(kind, 0) if run.steps else None for kind in kinds},
            **{f"losses.{name}": run.losses.get(name) for name in losses},
        }
        for run in record.runs
    ]


def _row(run: RunRecord, record: RaceRecord) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "budget": run.budget,
        "seed": run.seed,
        "metric": run.metric,
        "quality": run.quality,
        "seconds": run.seconds,
        "calibrated_seconds": run_cost(run, "calibrated", record.calibration),
        "flops": run.flops,
        "teacher_flops": run.teacher_flops,
        "teacher_seconds": run.teacher_seconds,
        "energy_joules": run.energy_joules,
        "memory_bytes": run.memory_bytes,
        "folder": run.folder,
    }
