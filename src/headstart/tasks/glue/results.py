"""What a GLUE score is made of, as it is kept in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from pydantic import Field

from headstart.records import Amount, Finite, Record
from headstart.tasks.glue.protocol import Start, title


class Making(Record):
    """What must be the same for a finished fine-tuning to be taken for one that is asked for.

    Attributes:
        checkpoint: Fingerprint of the pretrained weights.
        start: What it started from: these weights, or MNLI's, fine-tuned from them.
        epochs: Passes over the training data.
        lr_scale: Learning rate over the protocol's.
        precision: `fp32` or `bf16`.
        max_length: Tokens that inputs were cut to.
    """

    checkpoint: str
    start: Start
    epochs: float
    lr_scale: float = 1.0
    precision: str
    max_length: int


class SeedScore(Record):
    """One fine-tuning of one task.

    Attributes:
        metrics: By name (`accuracy`; of MNLI `accuracy_matched`, `accuracy_mismatched`), from 0 to 1, correlations
            from -1.
        samples: Of the training split.
        steps: Of the optimiser.
        seconds: That fine-tuning and judging took.
    """

    task: str
    seed: int
    metrics: dict[str, Finite]
    made: Making
    samples: int
    steps: int
    seconds: Amount


class TaskScore(Record):
    """A task over its seeds.

    Attributes:
        score: The mean of `metrics`.
        metrics: The means over seeds, by metric.
        start: What the fine-tunings started from.
    """

    task: str
    score: Finite
    metrics: dict[str, Finite]
    start: Start
    seeds: list[SeedScore]


class GlueRecord(Record):
    """GLUE of one checkpoint.

    Attributes:
        title: How many tasks the score is the mean of, and which.
        score: The mean over seeds for each metric, then over a task's metrics, then over tasks; from 0 to 1.
        missing: Tasks that were left out because their data is not at hand, and why.
        notes: Where it is not quite the protocol.
    """

    checkpoint: str
    title: str
    score: Finite
    tasks: list[TaskScore]
    missing: dict[str, str] = Field(default={})
    notes: list[str] = Field(default=[])

    def figures(self) -> dict[str, float]:
        """All means by name, such as `glue` and `mrpc.f1`."""
        return {"glue": self.score} | {
            f"{task.task}.{metric}": value for task in self.tasks for metric, value in task.metrics.items()
        }


def over_seeds(scores: Sequence[SeedScore]) -> TaskScore:
    """The score of a task from its fine-tunings."""
    first = scores[0]
    metrics = {name: mean(score.metrics[name] for score in scores) for name in first.metrics}
    return TaskScore(
        task=first.task, score=mean(metrics.values()), metrics=metrics, start=first.made.start, seeds=list(scores)
    )


def over_tasks(
    checkpoint: str, tasks: Sequence[TaskScore], *, missing: dict[str, str], notes: Iterable[str]
) -> GlueRecord:
    """The score of a checkpoint from its tasks."""
    return GlueRecord(
        checkpoint=checkpoint,
        title=title([task.task for task in tasks]),
        score=mean(task.score for task in tasks),
        tasks=list(tasks),
        missing=missing,
        notes=list(notes),
    )
