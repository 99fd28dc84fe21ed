"""`headstart plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.common import Json, Overrides, TeachersFolder, ending_in_order, guarded, stderr, stdout

if TYPE_CHECKING:
    from headstart.train.costs.planned import PlanRecord


def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe with a distill section, an init section, or both.")],
    overrides: Overrides = None,
    teachers: TeachersFolder = Path("runs/run/teachers"),
    seconds: Annotated[
        float, typer.Option(min=1, help="About how long steps are timed; reading data and models comes on top.")
    ] = 30.0,
    pilot: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Then train runs of this fraction of the shortest budget, with older models and without, and forecast "
            "the time saved. 0.1 trains half of the shortest budget in all.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The folder of the pilot's runs; start again with the same one to go on.")
    ] = Path("runs/pilot"),
    as_json: Json = False,
) -> None:
    r"""Measure on this machine, before training, what a run costs and what each way of reusing models would add.

    [bold]headstart plan recipes/demo.yaml[/]
    [bold]headstart plan recipes/fashion-mnist.yaml distill.stop=1.0 --teachers runs/fashion-mnist/teachers[/]

    [bold]headstart plan recipes/fashion-mnist.yaml --teachers runs/fashion-mnist/teachers --pilot 0.5[/]

    Nothing is trained or written without --pilot. Run it while nothing else runs.
    """
    with ending_in_order():
        found = guarded(lambda: _plan(recipe, overrides or [], teachers, seconds, pilot, out))
    if as_json:
        print(found.model_dump_json(indent=1))
        return
    from headstart.commands.plan import plan_tables

    for part in plan_tables(found):
        stdout().print(part, markup=False, highlight=False)


def _plan(
    path: Path, overrides: list[str], teachers: Path, seconds: float, pilot: float | None, out: Path
) -> PlanRecord:
    from headstart.commands.console import Display
    from headstart.experiment.planning.pilot import run_pilot
    from headstart.experiment.planning.plan import plan_recipe
    from headstart.recipe.load import load_recipe

    recipe = load_recipe(path, overrides)
    with Display(stderr()) as display:
        found = plan_recipe(recipe, teachers, seconds=seconds, progress=display.calibration_step)
        if pilot is None:
            return found
        forecast = run_pilot(recipe, found, pilot, out, teachers, watcher=display)
        return found.model_copy(update={"pilot": forecast})
