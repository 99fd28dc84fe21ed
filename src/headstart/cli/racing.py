"""`headstart race` and `headstart report`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli.common import Json, Overrides, fail, guarded, stderr, stdout
from headstart.errors import HeadstartError, RecipeError

if TYPE_CHECKING:
    from headstart.records import RaceRecord


def race(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe with a race section.", show_default=False)] = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The race folder; start again with the same one to go on.")] = Path(
        "runs/race"
    ),
    cmd: Annotated[
        str, typer.Option(help="Race this command instead: a template with {arm}, {budget}, {seed}, {record}.")
    ] = "",
    arms: Annotated[
        str, typer.Option(help="With --cmd: arms, the baseline first, then the primary one.")
    ] = "baseline,distill",
    budgets: Annotated[str, typer.Option(help="With --cmd: budgets, in whatever the command takes.")] = "",
    seeds: Annotated[str, typer.Option(help="With --cmd: seeds.")] = "0,1,2",
    workers: Annotated[int, typer.Option(min=1, help="Runs at once; each gets its share of the cores.")] = 1,
    as_json: Json = False,
) -> None:
    """Race arms x budgets x seeds, and judge how much faster than the baseline they are.

    [bold]headstart race recipes/demo.yaml --out runs/demo[/]
    [bold]headstart race recipes/demo.yaml race.seeds=[0,1,2] distill.stop=0.3 --out runs/three[/]
    [bold]headstart race --cmd "python train.py --arm {arm} --steps {budget} --seed {seed} --record {record}"
    --budgets 500,1000,2000 --out runs/mine[/]

    The command raced writes a small JSON file where {record} says: {"quality": 0.91, "seconds": 12.5}.
    """
    if cmd:
        if recipe is not None:
            fail(HeadstartError("give either a recipe or --cmd, not both"), 2)
        record = guarded(lambda: _race_command(cmd, out, arms, budgets, seeds, workers))
    elif recipe is not None:
        record = guarded(lambda: _race_recipe(recipe, overrides or [], out, workers))
    else:
        fail(HeadstartError("give a recipe to race, or a command with --cmd; see headstart race --help"), 2)
    _print_race(record, out, as_json)


def report(
    folder: Annotated[Path, typer.Argument(help="A race folder, with race.json.")],
    as_json: Json = False,
) -> None:
    """Judge a race's records again and draw its report."""

    def again() -> RaceRecord:
        from headstart.race import judge
        from headstart.records import RaceRecord, read_record

        return judge(read_record(RaceRecord, folder / "race.json"))

    _print_race(guarded(again), folder, as_json)


def _race_recipe(path: Path, overrides: list[str], out: Path, workers: int) -> RaceRecord:
    from headstart.console import Display
    from headstart.train.load import load_recipe
    from headstart.train.race_recipe import planned_runs, race_recipe

    recipe = load_recipe(path, overrides)
    with Display(stderr(), planned_runs(recipe), workers) as display:
        command = shlex.join(["headstart", "race", str(path), *overrides, "--out", str(out)])
        return race_recipe(recipe, out, watcher=display, command=command, workers=workers)


def _race_command(template: str, out: Path, arms: str, budgets: str, seeds: str, workers: int) -> RaceRecord:
    from headstart.console import Display
    from headstart.race import command_function, plan_race
    from headstart.race import race as run_race

    names = [name.strip() for name in arms.split(",") if name.strip()]
    lengths, numbers = _numbers(budgets, "--budgets", float), _numbers(seeds, "--seeds", int)
    with Display(stderr(), plan_race(names, lengths, numbers).runs, workers) as display:
        return run_race(
            command_function(template, out),
            arms=names,
            budgets=lengths,
            seeds=numbers,
            folder=out,
            command=template,
            listener=display,
            workers=workers,
        )


def _print_race(record: RaceRecord, out: Path, as_json: bool) -> None:
    from headstart.report import results_table, verdict_sentence, write_report

    page = guarded(lambda: write_report(record, out))
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        console = stdout()
        console.print(results_table(record))
        console.print(verdict_sentence(record), markup=False, highlight=False, soft_wrap=True)
        console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
    if record.failures:
        runs = len(record.failures)
        fail(HeadstartError(f"{runs} run{'s' if runs > 1 else ''} failed; start the same command again to retry"), 5)


def _numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise RecipeError(f"{option}={text!r}: give numbers with commas between them, for example 1,2,4") from None
