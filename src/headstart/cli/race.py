"""`headstart race` and `headstart report`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.common import Json, Overrides, ending_in_order, fail, guarded, stdout
from headstart.cli.what_to_race import Raced, RacedCommand, RacedRecipe, cluster_of
from headstart.errors import HeadstartError, RecipeError

if TYPE_CHECKING:
    from headstart.records import RaceRecord
    from headstart.report import Price

_ARMS, _SEEDS = "baseline,distill", "0,1,2"


def race(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe with a race section.", show_default=False)] = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The race folder; start again with the same one to go on.")] = Path(
        "runs/race"
    ),
    cmd: Annotated[
        str, typer.Option(help="Race this command instead: a template with {arm}, {budget}, {seed}, {record}.")
    ] = "",
    arms: Annotated[str, typer.Option(help="With --cmd: arms, the baseline first, then the primary one.")] = _ARMS,
    budgets: Annotated[str, typer.Option(help="With --cmd: budgets, in whatever the command takes.")] = "",
    seeds: Annotated[str, typer.Option(help="With --cmd: seeds.")] = _SEEDS,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once; each gets its share of the cores. Default: 1; on Ray, all that fit."),
    ] = None,
    on: Annotated[str, typer.Option(help="Where runs train: local, ray, or ray://HOST:PORT.")] = "local",
    cpus: Annotated[float, typer.Option(min=0, help="With --on ray: processors of each run.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="With --on ray: GPUs of each run.")] = 0,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Start a run only if it is forecast to end within this time; those that decide most come first. "
            "The same command again goes on.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print a command for each teacher, trial and run still to be done, and end.")
    ] = False,
    only: Annotated[str, typer.Option(help="Do this one alone, as a line of --plan says.")] = "",
    as_json: Json = False,
) -> None:
    r"""Race arms x budgets x seeds, and judge how much faster than the baseline they are.

    Each run is a complete training. With --plan the runs still to be done are printed, and nothing is trained.

    [bold]headstart race recipes/demo.yaml --out runs/demo[/]
    [bold]headstart race recipes/demo.yaml race.seeds=[3,4,5] distill.stop=0.3 --out runs/other[/]
    [bold]headstart race --cmd "python train.py --arm {arm} --steps {budget} --seed {seed} --record {record}"
    --budgets 500,1000,2000 --out runs/mine[/]
    [bold]headstart race recipes/demo.yaml --out runs/night --hours 8[/]
    [bold]headstart race recipes/cifar10.yaml race.curve=cyclic race.budgets=[0.5,1.5,3.5] --out runs/cyclic[/]
    [bold]headstart race recipes/cifar10.yaml data.tuning=5000 race.tune.train.lr=\[0.1,0.2,0.4] --out runs/tuned[/]
    [bold]headstart race recipes/demo.yaml --out runs/demo --on ray --gpus 1[/]
    [bold]headstart race recipes/demo.yaml --out runs/demo --plan > jobs.txt[/]

    The command raced writes a small JSON file where {record} says: {"quality": 0.91, "seconds": 12.5}.
    """
    raced: Raced
    if cmd:
        if recipe is not None:
            fail(HeadstartError("give either a recipe or --cmd, not both"), 2)
        raced = RacedCommand(out, cmd, arms, budgets, seeds)
    elif recipe is not None:
        _refuse_axes(arms=(arms, _ARMS), budgets=(budgets, ""), seeds=(seeds, _SEEDS))
        raced = RacedRecipe(out, recipe, overrides or [])
    else:
        fail(HeadstartError("give a recipe to race, or a command with --cmd; see headstart race --help"), 2)
    guarded(lambda: _require_one_process(together=bool(only) and not cmd))
    if plan:
        for line in guarded(raced.plan):
            print(line)
    elif only:
        with ending_in_order():
            guarded(lambda: raced.do(only))
    else:
        with ending_in_order():
            record = guarded(lambda: _race(raced, workers, on, cpus, gpus, hours))
        _print_race(record, out, as_json)


def report(
    folders: Annotated[list[Path], typer.Argument(help="A race folder, or several to compare.", show_default=False)],
    price: Annotated[
        float | None, typer.Option(help="What an hour of the machine costs: the report tells money, too.")
    ] = None,
    currency: Annotated[str, typer.Option(help="Of the price.")] = "USD",
    quality: Annotated[
        float | None, typer.Option(help="Tell the primary arm's speed-up to this quality, too, such as 0.92.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page that compares several races. Default: comparison.html.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a race's records again and draw its report, or compare several races on one page.

    [bold]headstart report runs/demo --price 2.50[/]
    [bold]headstart report runs/demo --quality 0.92[/]
    [bold]headstart report runs/images runs/text --out runs/comparison.html[/]
    """
    from headstart.race import judge, read_race
    from headstart.report import Price, quality_sentence

    if quality is not None and not math.isfinite(quality):
        fail(HeadstartError(f"--quality={quality}: give a quality that a run can have, such as 0.92"), 2)
    places = [folder.parent if folder.is_file() else folder for folder in folders]
    races = dict(zip(places, guarded(lambda: [judge(read_race(folder)) for folder in folders]), strict=True))
    machine = None if price is None else guarded(lambda: Price(price, currency))
    if quality is not None and not as_json:
        for record in races.values():
            stdout().print(quality_sentence(record, quality), markup=False, highlight=False, soft_wrap=True)
    if len(races) == 1:
        ((folder, record),) = races.items()
        if out is not None:
            fail(HeadstartError(f"--out={out} is for a page that compares races; that of one is in {folder}"), 2)
        _print_race(record, folder, as_json, machine)
    else:
        _print_races(races, out or Path("comparison.html"), as_json, machine)


def _refuse_axes(**options: tuple[str, str]) -> None:
    """Refuse what a recipe says itself, rather than race something else than was asked for."""
    for name, (given, default) in options.items():
        if given != default:
            what = "its arms are in race.arms" if name == "arms" else f"write race.{name}=[{given}]"
            fail(RecipeError(f"--{name}={given} is for --cmd; with a recipe {what}"), RecipeError.exit_code)


def _require_one_process(*, together: bool) -> None:
    """Refuse what each of several processes would do as a whole; `together`: they share the work."""
    if not together and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            f"headstart race was started as {os.environ['WORLD_SIZE']} processes, of which each would do all of it; "
            "start it once, and the lines that --plan prints with torchrun (a --cmd has its own torchrun inside)"
        )


def _race(raced: Raced, workers: int | None, on: str, cpus: float, gpus: float, hours: float | None) -> RaceRecord:
    with cluster_of(on, cpus, gpus) as cluster:
        return raced.race(workers or (1 if cluster is None else cluster.places), cluster, hours)


def _print_races(races: Mapping[Path, RaceRecord], out: Path, as_json: bool, price: Price | None) -> None:
    from headstart.report import races_table, write_comparison

    console = stdout()
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in races.values()], indent=1))
    else:
        console.print(races_table(races))
    page = guarded(lambda: write_comparison(races, out, price=price))
    if not as_json:
        console.print(f"Comparison: {page}", markup=False, highlight=False, soft_wrap=True)


def _print_race(record: RaceRecord, out: Path, as_json: bool, price: Price | None = None) -> None:
    from headstart.report import results_table, verdict_sentence, write_report

    console = stdout()
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        console.print(results_table(record))
        console.print(verdict_sentence(record), markup=False, highlight=False, soft_wrap=True)
    page = guarded(lambda: write_report(record, out, price=price))  # last: what it says is told even if it cannot be
    if not as_json:
        console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
    if record.failures:
        runs = len(record.failures)
        fail(HeadstartError(f"{runs} run{'s' if runs > 1 else ''} failed; start the same command again to retry"), 5)
