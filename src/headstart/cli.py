"""The `headstart` command: parse, call one function, print."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from headstart.errors import HeadstartError, RecipeError

# Everything heavy is imported inside the commands: `headstart --help` must not wait for torch.
if TYPE_CHECKING:
    from headstart.records import RaceRecord, RunRecord

Result = TypeVar("Result")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Train faster by distilling from models you already have, and measure how much faster.

    [bold]headstart race recipes/demo.yaml --out runs/demo[/]     is it worth it here?
    [bold]headstart train recipes/demo.yaml --out runs/one[/]     one run of a recipe
    [bold]headstart report runs/demo[/]                           draw a race's report again
    [bold]headstart teachers runs/demo/teachers/*[/]              what could teach?

    Exit codes: 0 done, 1 other errors, 2 wrong recipe or usage, 3 data, 4 teacher, 5 failed runs, 130 interrupted.
    """,
)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe: train.lr=0.1 distill.stop=0.3", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON on stdout, for machines.")]


@app.command()
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
            _fail(HeadstartError("give either a recipe or --cmd, not both"), 2)
        record = _guarded(lambda: _race_command(cmd, out, arms, budgets, seeds, workers))
    elif recipe is not None:
        record = _guarded(lambda: _race_recipe(recipe, overrides or [], out, workers))
    else:
        _fail(HeadstartError("give a recipe to race, or a command with --cmd; see headstart race --help"), 2)
    _print_race(record, out, as_json)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe.")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The run folder; start again with the same one to resume.")] = Path(
        "runs/run"
    ),
    as_json: Json = False,
) -> None:
    r"""Train one run of a recipe. The run folder can then be a teacher.

    [bold]headstart train recipes/fashion-mnist.yaml --out runs/one[/]
    [bold]headstart train recipes/fashion-mnist.yaml distill=null train.epochs=2 train.seed=1 --out runs/plain[/]
    [bold]headstart train recipes/fashion-mnist.yaml distill.teachers=\[runs/plain] --out runs/two[/]
    """
    record = _guarded(lambda: _train(recipe, overrides or [], out))
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        print(f"{record.metric} {record.quality:.4f} after {record.seconds:.1f} s of training; run folder: {out}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A race folder, with race.json.")],
    as_json: Json = False,
) -> None:
    """Judge a race's records again and draw its report."""

    def again() -> RaceRecord:
        from headstart.race import judge
        from headstart.records import RaceRecord, read_record

        return judge(read_record(RaceRecord, folder / "race.json"))

    _print_race(_guarded(again), folder, as_json)


@app.command()
def teachers(
    specs: Annotated[list[str], typer.Argument(help="Run folders, or safetensors files of runs.")],
    as_json: Json = False,
) -> None:
    """List what could teach: model, parameters, bytes, quality, and what a forward costs."""
    from headstart.listing import list_teachers, teachers_table

    found = _guarded(lambda: list_teachers(specs))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _stdout().print(teachers_table(found))


def main() -> None:
    """Entry point."""
    app(prog_name="headstart")


def _race_recipe(path: Path, overrides: list[str], out: Path, workers: int) -> RaceRecord:
    from headstart.console import Display
    from headstart.train.load import load_recipe
    from headstart.train.race_recipe import planned_runs, race_recipe

    recipe = load_recipe(path, overrides)
    with Display(_stderr(), planned_runs(recipe), workers) as display:
        command = shlex.join(["headstart", "race", str(path), *overrides, "--out", str(out)])
        return race_recipe(recipe, out, watcher=display, command=command, workers=workers)


def _race_command(template: str, out: Path, arms: str, budgets: str, seeds: str, workers: int) -> RaceRecord:
    from headstart.console import Display
    from headstart.race import command_function, plan_race
    from headstart.race import race as run_race

    names = [name.strip() for name in arms.split(",") if name.strip()]
    lengths, numbers = _numbers(budgets, "--budgets", float), _numbers(seeds, "--seeds", int)
    with Display(_stderr(), plan_race(names, lengths, numbers).runs, workers) as display:
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


def _train(path: Path, overrides: list[str], out: Path) -> RunRecord:
    from headstart.console import Display
    from headstart.train.load import load_recipe
    from headstart.train.run import train as run
    from headstart.train.teaching import teacher_recipes, train_teachers

    recipe = load_recipe(path, overrides).model_copy(update={"race": None})
    taught = teacher_recipes(recipe, [recipe])
    with Display(_stderr()) as display:
        paths = train_teachers(taught, out / "teachers", watcher=display)
        display.training(recipe.name)
        return run(recipe, out, teacher_paths=paths, progress=display.step)


def _print_race(record: RaceRecord, out: Path, as_json: bool) -> None:
    from headstart.report import results_table, verdict_sentence, write_report

    page = _guarded(lambda: write_report(record, out))
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        console = _stdout()
        console.print(results_table(record))
        console.print(verdict_sentence(record), markup=False, highlight=False, soft_wrap=True)
        console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
    if record.failures:
        runs = len(record.failures)
        _fail(HeadstartError(f"{runs} run{'s' if runs > 1 else ''} failed; start the same command again to retry"), 5)


def _numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise RecipeError(f"{option}={text!r}: give numbers with commas between them, for example 1,2,4") from None


def _guarded(function: Callable[[], Result]) -> Result:
    """Call; an error that the user can put right becomes its message and exit code."""
    try:
        return function()
    except HeadstartError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt:
        _fail(HeadstartError("interrupted; start the same command again to go on where it was"), 130)


def _fail(error: HeadstartError, code: int) -> NoReturn:
    print(f"headstart: {error}", file=sys.stderr)
    raise typer.Exit(code)


def _stdout() -> Any:
    from rich.console import Console

    return Console()


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)
