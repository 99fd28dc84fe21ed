"""`headstart glue`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.common import Json, guarded, stderr, stdout


def glue(
    checkpoint: Annotated[str, typer.Argument(help="A run folder of an mlm recipe, or a Hub id.")],
    tasks: Annotated[
        str, typer.Option(help="Tasks with commas between them; all whose data is at hand by default.")
    ] = "",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fine-tunings of a task at most.", show_default=False)
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0, help="Epochs of a fine-tuning at most.", show_default=False)
    ] = None,
    lr_scale: Annotated[
        float,
        typer.Option(min=0, help="Learning rates over the protocol's, which are for BERT-base."),
    ] = 1.0,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Where results go; by default `glue` in the run folder.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a pretrained encoder on the tasks of GLUE and score it. Finished fine-tunings are not done again.

    [bold]headstart glue runs/bert[/]
    [bold]headstart glue runs/bert --tasks sst2,stsb --seeds 2[/]
    """
    from headstart.commands.glue import glue_sentences, glue_table, score_checkpoint

    record = guarded(
        lambda: score_checkpoint(
            checkpoint,
            tasks=tasks,
            seeds=seeds,
            epochs=epochs,
            lr_scale=lr_scale,
            precision=precision,
            out=out,
            console=stderr(),
        )
    )
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        stdout().print(glue_table(record))
        stdout().print(glue_sentences(record), markup=False, highlight=False, soft_wrap=True)
