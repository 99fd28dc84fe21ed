"""What a run is judged by in the end: what its task measures, or the GLUE score of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headstart.recipe.recipe import MlmRecipe, Recipe
from headstart.records import RunRecord
from headstart.tasks.glue import GLUE_TASKS, GlueOptions, GlueRecord, SilentGlueWatcher, at_hand, glue_score


def check_judging(recipe: Recipe) -> None:
    """Make sure, before the first step, that what is needed to judge the run is at hand.

    Raises:
        HeadstartError: A library or the data of a GLUE task is not.
    """
    if (options := _glue(recipe)) is not None:
        at_hand(options)


def judged_by_glue(recipe: Recipe) -> bool:
    """Whether judging takes fine-tunings, and so long that a run may well be killed meanwhile."""
    return _glue(recipe) is not None


def judged(
    record: RunRecord, recipe: Recipe, folder: Path, progress: Callable[[int, int, float], None] | None = None
) -> RunRecord:
    """The record with the quality that the recipe asks for.

    Args:
        record: With what the task measures.
        recipe: Of the run.
        folder: The run folder, with weights, configuration and tokenizer. Finished fine-tunings are kept in its `glue`,
            and not done again.
        progress: Told how far each fine-tuning is.

    Returns:
        The record itself, or one with the GLUE score as its quality; what the task measures and the scores of single
        tasks are then among its `losses`.

    Raises:
        HeadstartError: As `glue_score`.
    """
    options = _glue(recipe)
    if options is None:
        return record
    score = glue_score(folder, options, watcher=SilentGlueWatcher() if progress is None else _Steps(progress))
    parts = {name: value for name, value in score.figures().items() if name != "glue"}
    losses = {record.metric: record.quality, **record.losses, **parts}
    update = {"quality": score.score, "metric": _metric(score), "higher_is_better": True, "losses": losses}
    return record.model_copy(update=update)


class _Steps(SilentGlueWatcher):
    """Hands the steps of the fine-tunings on."""

    def __init__(self, progress: Callable[[int, int, float], None]) -> None:
        self._progress = progress

    def step(self, step: int, total_steps: int, loss: float) -> None:
        """The present fine-tuning has got so far."""
        self._progress(step, total_steps, loss)


def _glue(recipe: Recipe) -> GlueOptions | None:
    return recipe.glue if isinstance(recipe, MlmRecipe) else None


def _metric(score: GlueRecord) -> str:
    """Scores over different tasks have different names, so that a race refuses to compare them."""
    tasks = [task.task for task in score.tasks]
    return "GLUE" if len(tasks) == len(GLUE_TASKS) else f"GLUE ({', '.join(tasks)})"
