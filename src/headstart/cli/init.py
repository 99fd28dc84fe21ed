"""`headstart init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headstart.cli.common import Json, guarded, stderr


def init(
    source: Annotated[str, typer.Argument(help="The older model: a folder, hf:OWNER/NAME, timm:NAME.")],
    like: Annotated[
        str,
        typer.Option(
            help="The new one's shape: a config.json or its folder, hf:OWNER/NAME, timm:NAME, or changes to the older "
            "one's configuration: num_hidden_layers=2,hidden_size=128."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The new checkpoint; an empty folder, or none yet.")],
    how: Annotated[
        str, typer.Option(help="auto, copy (same shape), select (out of a larger one), grow (out of a smaller one).")
    ] = "auto",
    scores: Annotated[
        str, typer.Option(help="What is kept of a larger one: spaced, first, or activation (needs --text).")
    ] = "spaced",
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Refit the layers that lost inputs, by least squares (needs --text).")
    ] = False,
    shrink: Annotated[float, typer.Option(help="Same shape: the old weights times this.")] = 1.0,
    perturb: Annotated[float, typer.Option(help="Same shape: plus fresh weights times this.")] = 0.0,
    require: Annotated[
        float, typer.Option(help="Refuse if less than this share of the parameters would be inherited.")
    ] = 0.0,
    text: Annotated[
        Path | None, typer.Option(help="A text file, to look at the source at work.", show_default=False)
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="Of the text, of 8 sequences each.")] = 8,
    seed: Annotated[int, typer.Option(help="Of weights that stay fresh.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a model that is cut or grown out of an older one, as a checkpoint that its library reads.

    [bold]headstart init runs/large --like num_hidden_layers=4,hidden_size=256 --out small[/]
    [bold]headstart init hf:answerdotai/ModernBERT-base --like small/config.json --out small-init --require 0.5[/]
    [bold]headstart init old --like new/config.json --scores activation --text sample.txt --out new-init[/]

    The table says what became of each tensor: copied, selected, tiled, or fresh. Tokenizer files are copied. Then
    train it as you would a fresh one, with an optimiser and a warm-up of its own, and try lower learning rates, too. In
    a recipe the section init does the same, and counts what it cost.
    """
    from headstart.commands.init import Way, write_init

    way = Way(how, scores, compensate, shrink, perturb, require)
    inherited = guarded(lambda: write_init(source, like, out, way, text=text, batches=batches, seed=seed))
    if as_json:
        print(json.dumps(inherited.to_dict(), indent=1))
    else:
        print(inherited.table())
        stderr().print(f"Checkpoint: {out}", markup=False, highlight=False, soft_wrap=True)
