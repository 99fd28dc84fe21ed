"""The cells of a race, arms x budgets, summed up for the tables and the picture of where the time went."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from headstart.records import Calibration, RaceRecord, RunRecord
from headstart.report.sentences import primary_result


@dataclass(frozen=True)
class TimeSplit:
    """Calibrated seconds of a run by what they went into; the three add up to the whole."""

    student: float
    teacher: float
    data: float

    @property
    def total(self) -> float:
        """The whole of it."""
        return self.student + self.teacher + self.data


@dataclass(frozen=True)
class Cell:
    """One arm at one budget: means over its seeds; None where no run says it.

    Attributes:
        n: Runs that finished.
        failed: Runs that did not.
        sd: Standard deviation of the quality over seeds, with n - 1; None for fewer than two runs.
        split: Where the calibrated time went; None without a calibration of every kind of step.
        teacher_share: The teachers' part of the FLOPs, in [0, 1].
        energy: Of training, in joules.
    """

    arm: str
    budget: float
    n: int
    failed: int
    quality: float | None
    sd: float | None
    seconds: float | None
    flops: float | None
    split: TimeSplit | None
    teacher_share: float | None
    energy: float | None


def summarise(record: RaceRecord) -> list[list[Cell]]:
    """All cells of a race: a row a budget, smallest first, with a cell for each arm raced at it, in their order."""
    rows = [
        [_cell(record, arm.name, budget) for arm in record.arms if budget in record.budgets_of(arm)]
        for budget in sorted(record.budgets)
    ]
    return [row for row in rows if row]


def shared_budget(record: RaceRecord) -> float | None:
    """The budget to show all arms at: that of the baseline's best if none has more arms, else the largest of those.

    Returns:
        None where no run has finished.
    """
    arms: dict[float, set[str]] = {}
    for run in record.runs:
        arms.setdefault(run.budget, set()).add(run.arm)
    most = max(map(len, arms.values()), default=0)
    shared = [budget for budget, found in arms.items() if len(found) == most]
    result = primary_result(record)
    if result is not None and result.reference_budget in shared:
        return result.reference_budget
    return max(shared, default=None)


def split_time(run: RunRecord, calibration: Calibration | None) -> TimeSplit | None:
    """Split a run's calibrated seconds: data = steps x data_seconds, teacher likewise, the student the rest.

    Returns:
        None without a calibration, or where the run took a kind of step that was not calibrated.
    """
    if calibration is None or not run.steps or not run.steps.keys() <= calibration.kinds.keys():
        return None
    kinds = [(count, calibration.kinds[kind]) for kind, count in run.steps.items()]
    teacher = sum(count * kind.teacher_seconds for count, kind in kinds)
    data = sum(count * kind.data_seconds for count, kind in kinds)
    return TimeSplit(sum(count * kind.seconds for count, kind in kinds) - teacher - data, teacher, data)


def _cell(record: RaceRecord, arm: str, budget: float) -> Cell:
    runs = [run for run in record.runs if (run.arm, run.budget) == (arm, budget)]
    qualities = [run.quality for run in runs]
    splits = [split for run in runs if (split := split_time(run, record.calibration)) is not None]
    return Cell(
        arm=arm,
        budget=budget,
        n=len(runs),
        failed=sum((failure.arm, failure.budget) == (arm, budget) for failure in record.failures),
        quality=_mean(qualities),
        sd=statistics.stdev(qualities) if len(qualities) > 1 else None,
        seconds=_mean(run.seconds for run in runs),
        flops=_mean(run.flops for run in runs if run.flops is not None),
        split=_mean_split(splits),
        teacher_share=_mean(
            run.teacher_flops / run.flops for run in runs if run.teacher_flops is not None and run.flops
        ),
        energy=_mean(run.energy_joules for run in runs if run.energy_joules is not None),
    )


def _mean_split(splits: list[TimeSplit]) -> TimeSplit | None:
    if not splits:
        return None
    student, teacher, data = (
        statistics.fmean(getattr(split, part) for split in splits) for part in ("student", "teacher", "data")
    )
    return TimeSplit(student, teacher, data)


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.fmean(values) if values else None
