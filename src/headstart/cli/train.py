"""`headstart train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.common import Json, Overrides, ending_in_order, guarded, stderr

if TYPE_CHECKING:
    from headstart.records import RunRecord


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe.")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The run folder; start again with the same one to resume.")] = Path(
        "runs/run"
    ),
    recycle: Annotated[
        Path | None,
        typer.Option(
            help="A folder of earlier runs: the best of them that fit become the teachers, in place of the recipe's.",
            show_default=False,
        ),
    ] = None,
    recycle_count: Annotated[int, typer.Option(min=1, help="How many of them, at most.")] = 1,
    as_json: Json = False,
) -> None:
    r"""Train one run of a recipe. The run folder can then be a teacher.

    [bold]headstart train recipes/fashion-mnist.yaml --out runs/one[/]
    [bold]headstart train recipes/fashion-mnist.yaml distill=null train.epochs=2 train.seed=1 --out runs/plain[/]
    [bold]headstart train recipes/fashion-mnist.yaml distill.teachers=\[runs/plain] --out runs/two[/]
    [bold]headstart train recipes/fashion-mnist.yaml train.lr=0.1 --recycle runs/search --out runs/search/three[/]
    [bold]torchrun --nproc-per-node 8 -m headstart train recipes/fashion-mnist.yaml --out runs/one[/]

    SIGTERM and Ctrl-C write a checkpoint, exit codes 75 and 130; a second one ends it at once.
    """
    with ending_in_order():
        record = guarded(lambda: _train(recipe, overrides or [], out, recycle, recycle_count))
    if not _speaks():
        return
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        for event in (record.opened, record.stopped):
            if event is not None:
                print(event.told)
        print(f"{record.metric} {record.quality:.4f} after {record.seconds:.1f} s of training; run folder: {out}")


def _train(path: Path, overrides: list[str], out: Path, recycle: Path | None, count: int) -> RunRecord:
    from headstart.commands.console import Display
    from headstart.experiment.recycle import recycled_recipe
    from headstart.experiment.train_teachers import rehearse, teacher_recipes, train_teachers
    from headstart.recipe.load import load_recipe
    from headstart.teachers.find import RECORD
    from headstart.train.precision import precision_told, settled_in
    from headstart.train.ranks import connect, disconnect, from_main
    from headstart.train.run import train as run
    from headstart.train.state.run_folder import RECIPE

    asked, told = load_recipe(path, overrides).model_copy(update={"race": None}), ""
    if recycle is not None:
        connect()
        plain, folder = asked, recycle
        asked, recycled = from_main(lambda: recycled_recipe(plain, folder, out, count=count))
        told = recycled.told
    recipe = settled_in(asked, out / RECIPE)
    taught = teacher_recipes(recipe, [recipe])
    if not all((out / "teachers" / name / RECORD).exists() for name in taught):
        rehearse([recipe], taught)
    with Display(stderr(quiet=not _speaks())) as display:
        display.note(precision_told(asked, recipe))
        if told:
            display.note(told)
        paths = train_teachers(taught, out / "teachers", watcher=display)
        display.training(recipe.name)
        record = run(recipe, out, teacher_paths=paths, progress=display.step, preemptible=True, note=display.note)
    disconnect()
    return record


def _speaks() -> bool:
    """Whether this process tells how it goes: the first of those that torchrun or accelerate launch started."""
    return int(os.environ.get("RANK", "0")) == 0
