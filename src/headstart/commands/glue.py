"""What `headstart glue` does and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from headstart.commands.console import Display
from headstart.errors import RecipeError
from headstart.tasks.glue import GlueOptions, GlueRecord, SeedScore, glue_score


class GlueDisplay(Display):
    """The bar of the present fine-tuning, and a line for each that has ended."""

    def scored(self, score: SeedScore) -> None:
        """A fine-tuning has ended."""
        self._console.print(
            f"[green]done[/] {score.task}, seed {score.seed}: {_listed(score.metrics)} in {score.seconds:.1f} s",
            highlight=False,
        )


def score_checkpoint(
    checkpoint: str,
    *,
    tasks: str = "",
    seeds: int | None = None,
    epochs: float | None = None,
    lr_scale: float = 1.0,
    precision: str = "auto",
    out: Path | None = None,
    console: Console,
) -> GlueRecord:
    """Score a checkpoint as the command's options say, and show on the console how far it is.

    Args:
        checkpoint: A run folder of an `mlm` recipe, or a Hub id.
        tasks: Names with commas between them; empty: all whose data is at hand.
        seeds: Fine-tunings of a task at most.
        epochs: Epochs of a fine-tuning at most.
        lr_scale: Learning rates over the protocol's.
        precision: `bf16`, `fp32`, or `auto`: bf16 where the device computes it in hardware.
        out: Where results go; by default `glue` in the run folder.
        console: Where to draw; stderr, so that stdout stays for the result.

    Raises:
        RecipeError: An option is wrong.
        HeadstartError: As `glue_score`.
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    options = _options(tasks=names or None, seeds=seeds, epochs=epochs, lr_scale=lr_scale, precision=precision)
    display = GlueDisplay(console)
    with display:
        return glue_score(checkpoint, options, folder=out, watcher=display)


def glue_table(record: GlueRecord) -> Table:
    """The tasks' scores as a table for the terminal."""
    table = Table("task", "score", "metrics", "seeds", "started from")
    for task in record.tasks:
        table.add_row(task.task, f"{task.score:.4f}", _listed(task.metrics), str(len(task.seeds)), task.start)
    return table


def glue_sentences(record: GlueRecord) -> str:
    """The score, what it is a score of, and what to know about it; a line each."""
    lines = [f"{record.title}: {record.score:.4f}", *(f"Note: {note}" for note in record.notes)]
    for task, reason in record.missing.items():
        lines.append(f"Without {task}: {reason.splitlines()[0]}")
    return "\n".join(lines)


def _options(**values: Any) -> GlueOptions:
    try:
        return GlueOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"--{str(first['loc'][0]).replace('_', '-')}={first['input']}: {reason}") from None


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
