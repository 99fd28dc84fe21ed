"""From a checkpoint to its GLUE score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from headstart.errors import DataError, HeadstartError
from headstart.tasks.glue.checkpoint import open_checkpoint
from headstart.tasks.glue.data import GlueData, find_data
from headstart.tasks.glue.job import MNLI, Job, write_result
from headstart.tasks.glue.options import GlueOptions
from headstart.tasks.glue.protocol import find_tasks
from headstart.tasks.glue.results import GlueRecord, SeedScore, over_seeds, over_tasks


class GlueWatcher(Protocol):
    """Told what goes on while a checkpoint is scored."""

    def training(self, what: str) -> None:
        """A fine-tuning begins."""
        ...

    def step(self, step: int, total_steps: int, loss: float) -> None:
        """It has got so far."""
        ...

    def scored(self, score: SeedScore) -> None:
        """It has ended, and its result is saved."""
        ...


class SilentGlueWatcher:
    """Ignores everything."""

    def training(self, what: str) -> None:
        """Ignored."""

    def step(self, step: int, total_steps: int, loss: float) -> None:
        """Ignored."""

    def scored(self, score: SeedScore) -> None:
        """Ignored."""


def glue_score(
    checkpoint: str | Path,
    options: GlueOptions | None = None,
    *,
    folder: str | Path | None = None,
    watcher: GlueWatcher | None = None,
) -> GlueRecord:
    """Fine-tune a pretrained encoder on GLUE and score it, by the protocol of the paper's authors.

    Each finished fine-tuning is kept as `<folder>/<task>/seed-<n>.json` and not done again; the whole is
    `<folder>/glue.json`. The same arguments give the same scores, and torch's random state is left as it was. It is
    the work of one process, which needs no other of a distributed training.

    Args:
        checkpoint: A run folder of an `mlm` recipe, any folder as `save_pretrained` writes it, or a Hub id. Weights in
            safetensors only.
        options: Less than the whole protocol.
        folder: Where results go; by default `glue` in the checkpoint's folder, for a Hub id `runs/glue/<its name>`.
        watcher: Told what happens. Default: nothing is.

    Returns:
        `score`, and everything it was made of.

    Raises:
        HeadstartError: The checkpoint cannot be used, data is missing or wrong, or the folder has results of something
            else: before the first step. Or the folder cannot be written, or a loss is not finite.
    """
    options, watcher = options or GlueOptions(), watcher or SilentGlueWatcher()
    folder = results_folder(checkpoint) if folder is None else Path(folder)
    data, missing = at_hand(options)
    opened = open_checkpoint(checkpoint)
    with_mnli = any(found.task.name == MNLI for found in data)
    jobs = [Job(found, opened, options, folder, with_mnli) for found in data]
    unfinished = [(job, seed) for job in jobs for seed in job.unfinished()]
    splits = {job: job.tokens() for job in dict.fromkeys(job for job, _ in unfinished)}
    for number, (job, seed) in enumerate(unfinished, start=1):
        watcher.training(f"{job.task.name}, seed {seed} ({number} of {len(unfinished)})")
        watcher.scored(job.run(seed, splits[job], watcher.step))
    tasks = [over_seeds(job.results()) for job in jobs]
    record = over_tasks(opened.source, tasks, missing=missing, notes=_notes(jobs, missing))
    write_result(record, folder / "glue.json")
    return record


def results_folder(checkpoint: str | Path) -> Path:
    """Where the results of a checkpoint go by default."""
    path = Path(checkpoint).expanduser()
    return path / "glue" if path.is_dir() else Path("runs/glue") / str(checkpoint).replace("/", "--")


def at_hand(options: GlueOptions) -> tuple[list[GlueData], dict[str, str]]:
    """Find the data of the tasks asked for, and what else scoring needs; a recipe calls it before hours of pretraining.

    Returns:
        The data found, in the order in which tasks run, and why that of other tasks was not. Tasks that are asked for
        by name are never left out.

    Raises:
        DataError: A task that was named has no data here, or no task has.
        HeadstartError: A library is not installed.
    """
    _require_libraries()
    found, missing = [], {}
    for task in find_tasks(options.tasks):
        try:
            found.append(find_data(task))
        except DataError as error:
            if options.tasks is not None:
                raise
            missing[task.name] = str(error)
    if not found:
        raise DataError("GLUE: no task's data is here\n" + "\n".join(missing.values()))
    return found, missing


def _require_libraries() -> None:
    try:
        import sklearn  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise HeadstartError(f"GLUE needs {error.name}; pip install 'headstart[text]'") from None


def _notes(jobs: Sequence[Job], missing: Mapping[str, str]) -> list[str]:
    """Say where the protocol was not followed to the letter."""
    notes = []
    if short := [job.task.name for job in jobs if job.task.start != job.made.start]:
        reason = "its data is not here" if MNLI in missing else "it is not among the tasks asked for"
        notes.append(f"{', '.join(short)}: started from pretraining and not from MNLI, as {reason}")
    if fewer := [f"{job.task.name} {len(job.seeds)}" for job in jobs if len(job.seeds) < job.task.seeds]:
        notes.append(f"fewer seeds than the protocol: {', '.join(fewer)}")
    if shorter := [f"{job.task.name} {job.made.epochs:g}" for job in jobs if job.made.epochs < job.task.epochs]:
        notes.append(f"fewer epochs than the protocol: {', '.join(shorter)}")
    if {job.options.lr_scale for job in jobs} != {1.0}:
        notes.append(f"learning rates are {jobs[0].options.lr_scale:g} times the protocol's")
    return notes
