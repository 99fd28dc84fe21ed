"""The files in benchmarks/results/: one result of one benchmark each, from which the numbers in the docs come."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import Field

from headstart.files import write_atomically
from headstart.records import Amount, Finite, Record
from headstart.train.costs.environment import environment

RESULTS = Path(__file__).resolve().parent / "results"


class Figure(Record):
    """A number that the docs may quote.

    Attributes:
        value: The number itself.
        low: Lower end of its 95 % interval, where it has one.
        high: Upper end.
        unit: Where it has one; a ratio has none.
        n: How many measurements it is made of.
    """

    value: Finite
    low: Finite | None = None
    high: Finite | None = None
    unit: str | None = None
    n: int | None = Field(default=None, ge=1)


class Result(Record):
    """What a result file holds.

    Attributes:
        name: The file's name without `.json`.
        command: How to measure it again, from the repository's root.
        device: What it ran on.
        date: When it ended, UTC, ISO 8601.
        versions: Of Python, of the packages, of this repository.
        seconds: How long the whole measurement took.
        figures: The numbers, by name.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    command: str
    device: str
    date: str
    versions: dict[str, str]
    seconds: Amount
    figures: dict[str, Figure] = Field(min_length=1)


def new_result(
    name: str,
    figures: dict[str, Figure],
    *,
    command: str,
    device: torch.device,
    seconds: float,
    packages: Sequence[str] = (),
) -> Result:
    """A result measured just now, in this process.

    Args:
        name: The file's name without `.json`: lower case, digits, dots and hyphens.
        figures: At least one.
        command: See `command_line`.
        device: Where it was measured.
        seconds: How long that took.
        packages: Distributions whose versions matter beside those always noted; left out where not installed.

    Raises:
        pydantic.ValidationError: The name cannot be a file's, a number is not finite, or there are no figures.

    Example:
        >>> figures = {"step_ratio": Figure(value=1.01, low=1.0, high=1.02, n=200)}
        >>> result = new_result(
        ...     "overhead", figures, command="python benchmarks/overhead.py", device=torch.device("cpu"), seconds=60.0
        ... )
        >>> result.figures["step_ratio"].high
        1.02
    """
    versions = environment(device)
    device_name = versions.pop("device")
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Result(
        name=name,
        command=command,
        device=device_name,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions,
        seconds=round(seconds, 1),
        figures=figures,
    )


def write_result(result: Result, folder: Path = RESULTS) -> Path:
    """Write `folder/NAME.json`; what a figure does not have is left out.

    Returns:
        The file.
    """
    path = folder / f"{result.name}.json"
    text = json.dumps(result.model_dump(mode="json", exclude_none=True), indent=1)
    write_atomically(path, f"{text}\n".encode())
    return path


def finish(
    name: str,
    figures: dict[str, Figure],
    *,
    command: str,
    device: torch.device,
    begin: float,
    folder: Path,
    packages: Sequence[str] = (),
    revision: str | None = None,
) -> None:
    """Write what a benchmark has measured, and print where: the end of its `main`.

    Args:
        name: As in `new_result`.
        figures: As there.
        command: As there.
        device: As there.
        begin: When it began, as `time.perf_counter` told.
        folder: For the file.
        packages: As in `new_result`.
        revision: Of this repository, where another one than that of this process was measured.
    """
    seconds = time.perf_counter() - begin
    result = new_result(name, figures, command=command, device=device, seconds=seconds, packages=packages)
    if revision is not None:
        result.versions["git revision"] = revision
    print(f"{write_result(result, folder)}, {result.seconds:.0f} s on {result.device}")


def name_on(name: str, device: torch.device) -> str:
    """A result's name where each kind of device has a file of its own: that of the CPU has no suffix.

    Example:
        >>> name_on("loss", torch.device("cuda"))
        'loss-cuda'
    """
    return name if device.type == "cpu" else f"{name}-{device.type}"


def command_line(program: str, arguments: Sequence[str]) -> str:
    """The command that ran a program of this folder, to be repeated from the repository's root.

    Args:
        program: Its `__file__`.
        arguments: What followed it.

    Example:
        >>> command_line("benchmarks/overhead.py", ["--pairs", "300"])
        'python benchmarks/overhead.py --pairs 300'
    """
    return shlex.join(["python", f"benchmarks/{Path(program).name}", *arguments])
