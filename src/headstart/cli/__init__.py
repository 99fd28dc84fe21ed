"""The `headstart` command: parse, call one function, print."""

from __future__ import annotations

import typer

from headstart.cli.cache import cache
from headstart.cli.glue import glue
from headstart.cli.init import init
from headstart.cli.plan import plan
from headstart.cli.race import race, report
from headstart.cli.teachers import doctor, teachers
from headstart.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Train faster by distilling from models you already have, and measure how much faster.

    [bold]headstart race recipes/demo.yaml --out runs/demo[/]   is it worth it here?
    [bold]headstart plan recipes/demo.yaml[/]                   what would it cost here?
    [bold]headstart train recipes/demo.yaml --out runs/one[/]   one run of a recipe
    [bold]headstart report runs/demo[/]                         draw a race's report again
    [bold]headstart teachers runs/demo/teachers/*[/]            what could teach?
    [bold]headstart doctor recipes/demo.yaml[/]                 is it set up rightly?
    [bold]headstart cache recipes/demo.yaml[/]                  run its teachers once
    [bold]headstart init runs/large --like config.json[/]       cut or grow it
    [bold]headstart glue runs/bert[/]                           how good is an encoder?

    Exit codes: 0 done, 1 other errors, 2 wrong recipe or usage, 3 data, 4 teacher, 5 failed runs, 75 pre-empted after a
    checkpoint, 130 interrupted.
    """,
)
for command in (race, plan, train, report, teachers, doctor, cache, init, glue):
    app.command()(command)


def main() -> None:
    """Entry point."""
    app(prog_name="headstart")
