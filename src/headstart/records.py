"""What runs and races leave behind. Written by the trainer and the race, read by the report and by other programs.

Records are plain JSON. A program raced with `headstart race --cmd` writes the smallest of them:
`{"quality": 0.91, "seconds": 12.5}`; every further field is optional and makes the report richer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headstart.errors import HeadstartError
from headstart.files import atomic_file as atomic_file
from headstart.files import write_atomically as write_atomically

Clock = Literal["calibrated", "seconds", "flops"]
Curve = Literal["separate", "cyclic"]
Status = Literal["reached", "at least", "not reached", "no data"]
Verdict = Literal["faster", "slower", "not resolved"]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Record(BaseModel):
    """Base of all records: immutable, unknown keys refused so that a typo is not lost silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TeacherCost(Record):
    """What it cost to make a teacher, so that a race can count it in (`None`: not known).

    `seconds`, `flops` and `steps` are those of its training. Where its targets came from a cache, `cache_seconds` and
    `cache_flops` are what making all of that took; None where it ran itself, too.
    """

    name: str
    quality: Finite | None = None
    parameters: int | None = None
    seconds: Amount | None = None
    flops: Amount | None = None
    steps: dict[str, int] = Field(default={}, description="Steps of its own training by kind, as in RunRecord.steps.")
    cache_seconds: Amount | None = None
    cache_flops: Amount | None = None


class StoppedRecord(Record):
    """An automatic stop that has come.

    `step`: the optimiser step at which it was decided; `end`: the one after the last that was distilled; `reason`:
    `passed`, `disagreement` or `cap`; `told`: all of it in a sentence.
    """

    step: int
    end: int
    total_steps: int
    reason: str
    told: str = ""


class OpenedRecord(Record):
    """A window that waited for the student to come near enough to its teachers.

    `step`: the first optimiser step from which on it was open, None where it stayed shut; `told`: all of it in a
    sentence.
    """

    step: int | None
    told: str = ""

    def begin(self, total_steps: int) -> int:
        """The first step that may have been distilled; after the last one where none was."""
        return total_steps if self.step is None else self.step


class InitRecord(Record):
    """How a run got its first weights out of an older model, before its first step.

    Attributes:
        source: The older model, and what making it cost.
        seconds: To read it, score it, and cut or grow it; part of the run's seconds.
        flops: Of the forwards that scored it, or took statistics anew; part of the run's FLOPs.
        inherited: What was done, as `Inherited.to_dict()` has it: the share of the student's parameters that it
            inherited, what became of each tensor, which entries of each axis were taken.
    """

    source: TeacherCost
    seconds: Amount
    flops: Amount
    inherited: dict[str, Any] = {}


class AutoRecord(Record):
    """What was chosen before a run's first step by a look at its teachers.

    Attributes:
        distill: The `distill` section with the choice in it, as a recipe would have it; None: no teacher is of use.
        reasons: Sentences: who is asked, and who is not and why.
        rows: Which rows were looked at.
        probe: What was found, as `Probe.to_dict()` has it.
        seconds: That it took; part of the run's seconds. Reading teachers and data is start-up, and not counted.
        flops: Of its forwards; part of the run's FLOPs.
    """

    distill: dict[str, Any] | None
    reasons: list[str] = []
    rows: str = ""
    probe: dict[str, Any] = {}
    seconds: Amount = 0.0
    flops: Amount = 0.0


class RunRecord(Record):
    """One training at one budget with one seed.

    Attributes:
        quality: The held-out metric at the end of training.
        seconds: Time spent training: the teachers' forward passes included, evaluation, checkpoints and start-up not.
        steps: Number of optimiser steps by kind (plain, distilling). The kinds are the keys of `Calibration.kinds`.
        flops: Floating-point operations of training (2 per multiply-add), teachers included.
        teacher_flops: The part of `flops` spent in teachers' forward passes.
        teacher_seconds: About how much of `seconds` that took: forwards timed before training, times their number.

    Example:
        >>> RunRecord(quality=0.91, seconds=12.5).metric
        'quality'
    """

    quality: Finite
    seconds: Amount
    arm: str = ""
    budget: float = 0.0
    seed: int = 0
    metric: str = "quality"
    higher_is_better: bool = True
    steps: dict[str, int] = {}
    flops: Amount | None = None
    teacher_flops: Amount | None = None
    teacher_seconds: Amount | None = None
    energy_joules: Amount | None = Field(default=None, description="Energy of training, where the machine tells.")
    memory_bytes: int | None = None
    teachers: list[TeacherCost] = []
    opened: OpenedRecord | None = Field(default=None, description="Where a window that waited for the student opened.")
    stopped: StoppedRecord | None = Field(default=None, description="Where an automatic stop closed the window.")
    losses: dict[str, Finite] = {}
    init: InitRecord | None = Field(default=None, description="How it got its first weights from an older model.")
    auto: AutoRecord | None = Field(default=None, description="What a look at the teachers made of the settings.")
    settings: dict[str, Any] = Field(default={}, description="The resolved recipe.")
    environment: dict[str, str] = {}
    folder: str | None = Field(default=None, description="The run folder, relative to the race folder where inside it.")


class StepTime(Record):
    """Calibrated time of one kind of step: the median, with an order-statistic 95 % interval.

    `data_seconds` (making the batch) and `teacher_seconds` (what distilling adds) are parts of `seconds`.
    """

    seconds: Amount
    low: Amount | None = None
    high: Amount | None = None
    n: int = 1
    data_seconds: Amount = 0.0
    teacher_seconds: Amount = 0.0


class Calibration(Record):
    """Step times measured interleaved on a quiet machine, by kind of step.

    `left_out`: why some kinds were not timed, by kind; steps of teachers' trainings, which the race can do without.
    """

    kinds: dict[str, StepTime]
    left_out: dict[str, str] = {}
    device: str = ""
    seconds: Amount = Field(default=0.0, description="How long the calibration itself took.")


class Failure(Record):
    """A run that did not give a record."""

    arm: str
    budget: float
    seed: int
    message: str


class Estimate(Record):
    """A figure with its 95 % interval; no interval where there is only one seed.

    Either end may be missing alone: the interval is then open on that side (a speed-up of at least `low`, say).
    """

    value: Finite
    low: Finite | None = None
    high: Finite | None = None


class ArmResult(Record):
    """One arm against the baseline, on one clock.

    Attributes:
        status: `reached`: the arm's curve crosses the target quality inside the measured budgets; `at least`: it is
            already above at its smallest budget, so `speedup` is a lower bound; `not reached`: `speedup` is None.
        target_quality: q*, the baseline's mean quality at `reference_budget`.
        reference_budget: b_ref, the smallest baseline budget as good as the best within one pooled standard error.
        baseline_cost: Cost of the baseline at b_ref, in the clock's unit (seconds or FLOPs).
        arm_cost: Cost of the arm when it reaches q*.
        overlap_speedup: Geometric mean of the speed-ups to all qualities that both curves reach.
        gain: Quality gained over the baseline at equal cost `baseline_cost` (sign: positive is better).
        more_seeds: Where the verdict is not resolved: about how many more seeds would resolve it, if quality and noise
            stay as measured. None where it is resolved, or where there is no such number up to 1000.
        teacher_cost: Cost of training the arm's teachers, where known.
        loaded_speedup: The speed-up with the teachers' training counted in once.
        break_even: Number of trainings after which the teachers' training has paid for itself.
    """

    arm: str
    clock: Clock
    status: Status
    verdict: Verdict
    target_quality: Finite | None = None
    reference_budget: float | None = None
    baseline_cost: Amount | None = None
    arm_cost: Amount | None = None
    speedup: Estimate | None = None
    overlap_speedup: Estimate | None = None
    gain: Estimate | None = None
    more_seeds: int | None = None
    teacher_cost: Amount | None = None
    loaded_speedup: Amount | None = None
    break_even: int | None = None


class Arm(Record):
    """A named variation of the raced training.

    `budgets` and `seeds` are its own, some of the race's, where the others could not change the answer or are not worth
    their time; None: all of the race's.
    """

    name: str
    description: str = ""
    overrides: dict[str, Any] = {}
    budgets: list[float] | None = None
    seeds: list[int] | None = None


class Trial(Record):
    """A short run before a race, by which an arm's settings were chosen.

    Attributes:
        values: What was tried, by dotted key.
        quality: On the samples set aside to tune by; None where training diverged, and `failure` says how.
        seconds: Of training; of one that diverged, until then.
    """

    arm: str
    values: dict[str, Any]
    seed: int
    quality: Finite | None = None
    seconds: Amount | None = None
    flops: Amount | None = None
    failure: str = ""


class Tuning(Record):
    """What was done before a race to give each arm settings of its own.

    Attributes:
        chosen: By arm, what it is raced with, by dotted key; also where there was one value and nothing to choose.
        budget: Of each trial.
        samples: How many training samples were set aside to judge trials by.
    """

    trials: list[Trial] = []
    chosen: dict[str, dict[str, Any]] = {}
    budget: float
    samples: int
    metric: str = "quality"
    higher_is_better: bool = True


class RaceRecord(Record):
    """Everything about a race, for machines: `race.json`."""

    name: str = "race"
    arms: list[Arm]
    baseline: str
    primary: str
    budgets: list[float]
    budget_unit: str = "budget"
    seeds: list[int]
    curve: Curve = Field(default="separate", description="Runs of their own, or points of one training in cycles.")
    runs: list[RunRecord] = []
    failures: list[Failure] = []
    cut_short: bool = Field(default=False, description="Whether runs are missing because the time was limited.")
    tuning: Tuning | None = Field(default=None, description="How the arms got settings of their own, where they did.")
    calibration: Calibration | None = None
    calibration_failure: str = Field(default="", description="Why there is no calibration, where it failed.")
    results: list[ArmResult] = []
    headline_clock: Clock = "seconds"
    recipe: str = Field(default="", description="The recipe's text, where a recipe was raced.")
    command: str = ""
    environment: dict[str, str] = {}
    date: str = ""

    def budgets_of(self, arm: Arm) -> list[float]:
        """The budgets that an arm is raced at."""
        return self.budgets if arm.budgets is None else arm.budgets

    def seeds_of(self, arm: Arm) -> list[int]:
        """The seeds that an arm is raced with."""
        return self.seeds if arm.seeds is None else arm.seeds


R = TypeVar("R", bound="Record")


def read_record(kind: type[R], path: str | os.PathLike[str]) -> R:
    """Read a record from a JSON file.

    Args:
        kind: The class to read, `RunRecord` or `RaceRecord`.
        path: The file.

    Raises:
        HeadstartError: The file is missing, is no JSON, or does not hold such a record; names file and field.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadstartError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise HeadstartError(
            f"{path}: {where}: {first['msg']} (expected a {kind.__name__}); if headstart wrote it, it is damaged or of "
            "another version: move it away, and the same command writes it anew"
        ) from None


def write_record(record: Record, path: str | os.PathLike[str]) -> None:
    """Write a record as JSON, atomically: readers see the old file or the new one, never half of it."""
    write_atomically(path, json.dumps(record.model_dump(mode="json"), indent=1).encode())
