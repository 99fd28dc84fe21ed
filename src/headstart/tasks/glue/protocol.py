"""How the paper's authors fine-tune and score GLUE, task by task."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.errors import RecipeError

Start = Literal["pretraining", "mnli"]

MAX_LENGTH = 256  # tokens; longer inputs are cut
BETAS = (0.9, 0.98)  # of AdamW, and so its epsilon
EPS = 1e-6
WARMUP = 0.06  # of the steps, linear; then linearly to 0


@dataclass(frozen=True)
class GlueTask:
    """One task of GLUE (Wang et al., arXiv 1804.07461) and its settings.

    Attributes:
        name: As in the data set `nyu-mll/glue`.
        columns: The one or two columns of text.
        classes: Number of classes; 1 for a score to regress.
        metrics: What is measured on each validation split.
        lr: The highest learning rate.
        decay: The authors' "decoupled" weight decay: per step, at the highest learning rate. Of all parameters.
        epochs: Passes over the training data.
        batch_size: Samples of a step.
        seeds: How many fine-tunings, with the seeds 0, 1, ...
        start: The weights to start from.
        validation: The splits to judge on.
    """

    name: str
    columns: tuple[str, ...]
    classes: int
    metrics: tuple[str, ...]
    lr: float
    decay: float
    epochs: int
    batch_size: int
    seeds: int
    start: Start = "pretraining"
    validation: tuple[str, ...] = ("validation",)

    @property
    def weight_decay(self) -> float:
        """The decay as torch's AdamW takes it, which multiplies it by the learning rate."""
        return self.decay / self.lr


_PAIR = ("sentence1", "sentence2")
_BOTH_MNLI = ("validation_matched", "validation_mismatched")

# MNLI comes first: others start from it.
GLUE_TASKS = {
    task.name: task
    for task in (
        GlueTask("mnli", ("premise", "hypothesis"), 3, ("accuracy",), 5e-5, 5e-6, 3, 48, 1, validation=_BOTH_MNLI),
        GlueTask("qnli", ("question", "sentence"), 2, ("accuracy",), 1e-5, 1e-6, 10, 16, 1),
        GlueTask("qqp", ("question1", "question2"), 2, ("accuracy", "f1"), 3e-5, 3e-6, 5, 16, 1),
        GlueTask("sst2", ("sentence",), 2, ("accuracy",), 3e-5, 3e-6, 3, 16, 3),
        GlueTask("cola", ("sentence",), 2, ("matthews",), 5e-5, 5e-6, 10, 32, 4),
        GlueTask("rte", _PAIR, 2, ("accuracy",), 1e-5, 1e-5, 3, 16, 5, start="mnli"),
        GlueTask("mrpc", _PAIR, 2, ("accuracy", "f1"), 8e-5, 8e-6, 10, 32, 5, start="mnli"),
        GlueTask("stsb", _PAIR, 1, ("spearman",), 3e-5, 3e-6, 10, 32, 5, start="mnli"),
    )
}


def find_tasks(names: Iterable[str] | None = None) -> list[GlueTask]:
    """Tasks by name, in the order in which they run.

    Args:
        names: In any order, case and hyphenation (`SST-2`); None: all eight.

    Raises:
        RecipeError: A name is unknown, or there are none.

    Example:
        >>> [task.name for task in find_tasks(["SST-2", "mnli"])]
        ['mnli', 'sst2']
        >>> find_tasks(["sst3"])
        Traceback (most recent call last):
        ...
        headstart.errors.RecipeError: unknown GLUE task 'sst3'; did you mean 'sst2'? ...
    """
    if names is None:
        return list(GLUE_TASKS.values())
    wanted = {_known(name) for name in names}
    if not wanted:
        raise RecipeError(f"no GLUE tasks; give some of {_listed()}")
    return [task for task in GLUE_TASKS.values() if task.name in wanted]


def title(names: Sequence[str]) -> str:
    """What a score is a score of: the mean over all eight tasks, and that over five of them, are two things.

    Example:
        >>> title(["cola", "sst2"])
        'GLUE over 2 of 8 tasks (cola, sst2)'
    """
    if len(names) == len(GLUE_TASKS):
        return f"GLUE over all {len(GLUE_TASKS)} tasks"
    return f"GLUE over {len(names)} of {len(GLUE_TASKS)} tasks ({', '.join(names)})"


def _known(name: str) -> str:
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in GLUE_TASKS:
        return plain
    nearest = difflib.get_close_matches(plain, GLUE_TASKS, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    raise RecipeError(f"unknown GLUE task {name!r}{hint} There are {_listed()} (WNLI is left out, as in the paper)")


def _listed() -> str:
    return ", ".join(GLUE_TASKS)
