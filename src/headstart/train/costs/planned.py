"""What a run would cost, before it is trained: the records of a plan, and their arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from headstart.records import Amount, Estimate, Finite, Record, StepTime
from headstart.train.costs.pilot import PilotForecast

WayName = Literal["plain", "window", "automatic", "cached", "init"]


class PlannedTeacher(Record):
    """One teacher: what asking it takes, and what its record tells. What a probe finds out about it belongs here, too.

    Attributes:
        name: As the recipe has it.
        trained: Whether its weights are at hand; where not, it was timed with fresh ones, which take as long.
        quality: As its record tells; None: it does not.
        metric: Of that quality.
        parameters: How many.
        bytes: Of parameters and buffers.
        share: Of the distilled steps, how many ask it, on average.
        forward: Of one step's samples.
        flops: The same in FLOPs.
        training_flops: What training it took, or would take; None: not known.
        seen: How many samples its training saw, in those that this run will see; None: not known.
    """

    name: str
    trained: bool
    quality: Finite | None = None
    metric: str = ""
    parameters: int
    bytes: int
    share: Amount
    forward: StepTime
    flops: Amount
    training_flops: Amount | None = None
    seen: Amount | None = None


class PlannedMemory(Record):
    """Memory in bytes.

    Attributes:
        parameters: Of the student, its buffers included.
        gradients: Of its trained parameters.
        optimizer: What the optimiser keeps.
        average: The moving average of the weights, where there is one.
        teachers: Of those that are on the device at a time.
        rest: The measured peak less all these: activations, batches, scratch space; on a CPU libraries and data, too.
        plain_peak: Measured in steps without distillation. On CUDA what torch allocated there; else what this process
            occupied (Linux); None where nothing tells.
        distilled_peak: The same in steps that distil, or that would follow them: at least `plain_peak`.
        host_peak: What the process occupied at its highest, reading the data included, which can take more than steps.
    """

    parameters: int
    gradients: int
    optimizer: int
    average: int = 0
    teachers: int = 0
    rest: int | None = None
    plain_peak: int | None = None
    distilled_peak: int | None = None
    host_peak: int | None = None


class PlannedCache(Record):
    """Targets made once.

    `by`: whether they are of the steps of the recipe's window or of all views of its samples (`headstart cache --by`),
    whichever are fewer; `bytes`: of the files, by view but for some hundred bytes of headers; `seconds`: to make them;
    `step`: one that reads them, a batch's one after the other.
    """

    bytes: int
    seconds: Amount
    kind: str
    step: StepTime
    by: Literal["epoch", "view"] = "epoch"


class Way(Record):
    """One way to train the run.

    Attributes:
        name: `plain`, `window 0.5`, `automatic`, `cached`, `init`, `init + window 0.5`.
        kind: What it is.
        own: Whether it is the recipe's.
        seconds: Of the run's steps, and of what comes before the first on its clock.
        overhead: That over a plain run, less 1, if it takes as many steps.
        flops_overhead: The same in FLOPs; None where they are not all counted.
        saving: The share of its steps that it has to save to be no slower than the plain run; 1 or more: it cannot be.
        once: Seconds that are spent before, once for many runs (making a cache); not among `seconds`.
        at_most: Whether it may cost less: a window may open late by itself, an automatic stop come before its cap.
        refused: Why this recipe cannot go this way; the figures are then those of the plain run.
    """

    name: str
    kind: WayName
    own: bool = False
    seconds: Amount
    overhead: Finite = 0.0
    flops_overhead: Finite | None = None
    saving: Finite = 0.0
    once: Amount = 0.0
    at_most: bool = False
    refused: str = ""


class PlanRecord(Record):
    """What a run would cost, measured on this machine before it is trained.

    Attributes:
        recipe: Its name.
        device: Where it was timed.
        environment: Versions.
        took: Seconds that measuring took.
        steps: Of the run.
        batch_size: Samples of a step.
        epochs: How often the run goes through its data; None: it is a stream.
        plain: A step without distillation.
        distilled: A step with it; None where the recipe does not distil.
        loss: Seconds that a distilled step takes beyond a plain one and its teachers' forwards: the loss, and what else
            there is. Below 0 where teachers work beside the student.
        student_flops: Of a plain step.
        data_seconds: Making a step's batch.
        data_ahead: Whether that is done beside the steps, by workers; else it is a part of each.
        teachers: One each.
        memory: Bytes.
        cache: Where targets can be cached.
        ways: The plain run first.
        recommended: The name of one of them.
        reasons: Why, a sentence each.
        pilot: What short runs have shown, where there were any.
    """

    recipe: str
    device: str
    environment: dict[str, str] = Field(default={})
    took: Amount
    steps: int
    batch_size: int
    epochs: Amount | None = None
    plain: StepTime
    distilled: StepTime | None = None
    loss: Estimate | None = None
    student_flops: Amount
    data_seconds: Amount
    data_ahead: bool = False
    teachers: list[PlannedTeacher] = Field(default=[])
    memory: PlannedMemory
    cache: PlannedCache | None = None
    ways: list[Way] = Field(default=[])
    recommended: str = ""
    reasons: list[str] = Field(default=[])
    pilot: PilotForecast | None = None

    @property
    def data_keeps_up(self) -> bool:
        """Whether batches made ahead are there before the step needs them; those made in the step always are."""
        return not self.data_ahead or self.data_seconds <= self.plain.seconds


def saving_needed(overhead: float, before: float = 0.0) -> float:
    """The share of its steps that a run has to save to be no slower than a plain one.

    A window is a fraction of the training, so that a shorter run has the same overhead: with n of N steps it takes
    `before + (1 + overhead) n / N` of the plain run.

    Args:
        overhead: Seconds of its steps over those of the plain run, less 1.
        before: What it spends before the first step, in plain runs.

    Returns:
        1 or more where `before` alone takes as long as the plain run.

    Example:
        >>> round(saving_needed(0.25), 3)
        0.2
        >>> round(saving_needed(0.25, before=0.5), 3)
        0.6
    """
    return 1 - (1 - before) / (1 + overhead)


def way(
    name: str,
    kind: WayName,
    steps_seconds: float,
    plain_seconds: float,
    *,
    before: float = 0.0,
    own: bool = False,
    once: float = 0.0,
    at_most: bool = False,
    flops_overhead: float | None = None,
) -> Way:
    """A way from its seconds.

    Args:
        name: See `Way`.
        kind: See there.
        steps_seconds: Of all its steps.
        plain_seconds: Of all steps of the plain run.
        before: Seconds on the run's clock before the first step.
        own: See there.
        once: See there.
        at_most: See there.
        flops_overhead: See there.
    """
    seconds = before + steps_seconds
    return Way(
        name=name,
        kind=kind,
        own=own,
        seconds=seconds,
        overhead=seconds / plain_seconds - 1,
        flops_overhead=flops_overhead,
        saving=saving_needed(steps_seconds / plain_seconds - 1, before / plain_seconds),
        once=once,
        at_most=at_most,
    )


def runs_to_pay(live: Way, cached: Way) -> int | None:
    """From which run on a cache is cheaper than asking live teachers in each; None: never. A single run gains nothing.

    Example:
        >>> live, read = Way(name="w", kind="window", seconds=120), Way(name="c", kind="cached", seconds=100, once=50)
        >>> runs_to_pay(live, read)
        3
    """
    saved = live.seconds - cached.seconds
    return None if saved <= 0 else max(2, int(cached.once // saved) + 1)


def named(ways: Sequence[Way], kind: WayName) -> Way | None:
    """The first possible way of a kind, or None; the recipe's own before others."""
    found = [way for way in ways if way.kind == kind and not way.refused]
    return min(found, key=lambda way: not way.own, default=None)
