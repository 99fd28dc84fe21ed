"""What all commands share: messages, exit codes, consoles."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from headstart.errors import ONE_REQUEST, HeadstartError, Interrupted, Preempted

# Everything heavy is imported inside the commands: `headstart --help` must not wait for torch, nor for rich.
if TYPE_CHECKING:
    from rich.console import Console

Result = TypeVar("Result")

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe: train.lr=0.1 distill.stop=0.3", show_default=False)
]
TeachersFolder = Annotated[
    Path, typer.Option(help="Where the teachers lie that the recipe trains itself, each in a folder of its name.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON on stdout, for machines.")]


class _Terminated(KeyboardInterrupt):
    """SIGTERM where no training notes it: it ends a command as Ctrl-C does, but for the code."""


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Have SIGTERM, like Ctrl-C, end a command in order: what is under way is saved. A second one ends it at once."""
    first: float | None = None

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            raise KeyboardInterrupt if number == signal.SIGINT else _Terminated
        if time.monotonic() - first > ONE_REQUEST:
            os._exit(128 + number)  # whatever waits for whom; worker processes end with their parent

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def guarded(function: Callable[[], Result]) -> Result:
    """Call; an error that the user can put right becomes its message and exit code."""
    try:
        return function()
    except HeadstartError as error:
        fail(error, error.exit_code)
    except KeyboardInterrupt as stopped:
        code = Preempted.exit_code if isinstance(stopped, _Terminated) else Interrupted.exit_code
        fail(HeadstartError("interrupted; start the same command again to go on where it was"), code)


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
