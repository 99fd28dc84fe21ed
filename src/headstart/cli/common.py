"""What all commands share: messages, exit codes, consoles."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from headstart.errors import HeadstartError

# Everything heavy is imported inside the commands: `headstart --help` must not wait for torch, nor for rich.
if TYPE_CHECKING:
    from rich.console import Console

Result = TypeVar("Result")

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe: train.lr=0.1 distill.stop=0.3", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON on stdout, for machines.")]


def guarded(function: Callable[[], Result]) -> Result:
    """Call; an error that the user can put right becomes its message and exit code."""
    try:
        return function()
    except HeadstartError as error:
        fail(error, error.exit_code)
    except KeyboardInterrupt:
        fail(HeadstartError("interrupted; start the same command again to go on where it was"), 130)


def fail(error: HeadstartError, code: int) -> NoReturn:
    """Say what is wrong and leave with a code."""
    print(f"headstart: {error}", file=sys.stderr)
    raise typer.Exit(code)


def stdout() -> Console:
    """For results."""
    from rich.console import Console

    return Console()


def stderr(*, quiet: bool = False) -> Console:
    """For all that is no result: progress, warnings."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet)
