"""Checks and measures on a GPU all that the CPU cannot: one command, at most 8 minutes, one table at the end.

Usage: python benchmarks/gpu_check.py [--only PART ...] [--out FOLDER]

Each part is a program of its own with a limit of time; one that fails, hangs or is killed takes nothing from the
others, and what one has left of its time the next ones may use. Result files, and what each part printed, go to a
folder named after the device, under benchmarks/results. Nothing is installed or fetched: headstart runs from this
checkout, with the packages of the Python that runs this. Where the machine has no network, bring wheels of what is
missing (`pip download`). `--device cpu --quick` tries the parts in miniature.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Column, Table

ROOT = Path(__file__).resolve().parents[1]
_PAIRS = ["--pairs", "2"]
_LAST_LINES = 12  # of what a part printed, where it left no figures: those that it has measured, or its error
_DYING = 10.0  # seconds that a killed process has; one that waits for a driver may never go


@dataclass(frozen=True)
class Part:
    """A program to run.

    Attributes:
        name: Short, a file's name too.
        command: What Python is given.
        limit: Seconds after which it is stopped, but for what parts before it have left of theirs.
    """

    name: str
    command: Sequence[str]
    limit: float


@dataclass(frozen=True)
class Outcome:
    """What became of a part; `lines` are what the table shows."""

    part: Part
    ended: str
    seconds: float
    lines: Sequence[str]

    @property
    def failed(self) -> bool:
        """Whether it did not end well."""
        return self.ended != "done"


def parts(device: str, out: Path, *, quick: bool) -> list[Part]:
    """All parts; their limits come to 8 minutes."""
    on, to = ["--device", device], ["--out", str(out)]

    def program(name: str, full: Sequence[str], short: Sequence[str]) -> list[str]:
        return [f"benchmarks/{name}.py", *(short if quick else full)]

    # So many as the time allows: the interval of each figure tells what that is worth.
    big = ["--pairs", "24", "--runs", "6", "--batch-size"]
    mini = [*_PAIRS, "--runs", "1", "--miniature", "--batch-size", "2"]
    loss = program("loss", ["--pairs", "60"], [*_PAIRS, "--rows", "32", "--classes", "64", "--no-compiled"])
    pool = program(
        "pool", ["--pairs", "60", "--sizes", "16"], [*_PAIRS, "--sizes", "2", "--depth", "8", "--width", "8"]
    )
    resnet = program("overhead", [*big, "128"], mini)
    bert = program("overhead", [*big, "64"], mini)
    killed = program("kill_resume", ["--trials", "6", "--enough", "60"], ["--trials", "1", "--steps", "8"])
    return [
        Part("tests", ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *files_with_gpu_tests()], 90),
        Part("loss", [*loss, *on, *to], 90),
        Part("overhead-resnet50", [*resnet, "--model", "resnet50", *on, *to], 90),
        Part("overhead-bert-base", [*bert, "--model", "bert-base", *on, *to], 70),
        Part("pool", [*pool, *on, *to], 50),
        Part("kill-resume", [*killed, *to], 90),
    ]


def files_with_gpu_tests() -> list[str]:
    """Collecting only these saves half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.gpu\n" in file.read_text(encoding="utf-8")]


def run(part: Part, out: Path, *, device: str, limit: float) -> Outcome:
    """Run a part with its processes, until it ends or its time is up; what it prints goes to a file.

    Args:
        part: What to run.
        out: Where its log goes, and where its results are looked for.
        device: Of the CPU alone it is told that there is no other.
        limit: Seconds that it has.
    """
    begin, before = time.perf_counter(), _results(out)
    log = out / f"{part.name}.log"
    try:
        ended = _run_to_end(part, log, device, limit)
        lines = list(_figures(out, since=before)) or _last_lines(log)
    except Exception as error:  # a full disk, a result that cannot be read: told, and the next part has its turn
        ended, lines = "failed", [f"{type(error).__name__}: {error}"]
    return Outcome(part, ended, time.perf_counter() - begin, lines)


def _run_to_end(part: Part, log: Path, device: str, limit: float) -> str:
    """How it ended."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with log.open("w", encoding="utf-8") as printed:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env=environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = _how(process.wait(limit))
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit:.0f} s"
        finally:
            gone = _end(process)
    return ended if gone else f"{ended}, and does not go"


def _how(code: int) -> str:
    """What an exit status says.

    Example:
        >>> _how(0), _how(1), _how(-9)
        ('done', 'failed (1)', 'killed by SIGKILL')
    """
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return "done" if code == 0 else f"failed ({code})"


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Kill what is left of a part; whether it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # children that outlive it too
    try:
        process.wait(_DYING)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-_LAST_LINES:]


def _results(out: Path) -> list[tuple[Path, int]]:
    return [(file, file.stat().st_mtime_ns) for file in sorted(out.glob("*.json"))]


def _figures(out: Path, *, since: Sequence[tuple[Path, int]]) -> Iterator[str]:
    for file, _ in (entry for entry in _results(out) if entry not in since):
        figures: Mapping[str, Mapping[str, float]] = json.loads(file.read_text(encoding="utf-8"))["figures"]
        for name, figure in figures.items():
            interval = f" ({figure['low']:.4g} to {figure['high']:.4g})" if "low" in figure else ""
            yield f"{name} {figure['value']:.4g}{interval}"


def table(outcomes: Sequence[Outcome], device: str) -> Table:
    """What became of each part, and its figures."""
    shown = Table("part", Column("figures, with their 95 % intervals", overflow="fold"), title=device, show_lines=True)
    for outcome in outcomes:
        part = f"{outcome.part.name}\n{outcome.ended}\n{outcome.seconds:.0f} s"
        shown.add_row(part, "\n".join(outcome.lines), style="red" if outcome.failed else "")
    return shown


def device_name(device: str) -> str:
    """As the driver calls it, or the processor's architecture.

    Another process asks the driver: this one must not hold the device, of which some let in one process at a time.
    """
    if device == "cpu":
        return f"CPU ({platform.machine()})"
    asking = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
    told = subprocess.run(asking, capture_output=True, text=True, timeout=120, check=False)
    lines = (told.stdout if told.returncode == 0 else told.stderr).strip().splitlines()
    if told.returncode or not lines:
        sys.exit(f"the CUDA device does not answer: {lines[-1] if lines else 'nothing was said'}")
    return lines[-1]


def folder_for(name: str) -> Path:
    """Where the results of a device go.

    Example:
        >>> folder_for("NVIDIA H100 80GB HBM3").name
        'nvidia-h100-80gb-hbm3'
    """
    return ROOT / "benchmarks" / "results" / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="each part in miniature; the numbers mean nothing")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts alone")
    parser.add_argument("--out", type=Path, help="folder of results; default: benchmarks/results/DEVICE")
    options = parser.parse_args(arguments)
    names = [part.name for part in parts("cpu", Path(), quick=True)]
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu --quick tries the parts in miniature")
    return options


def main(arguments: Sequence[str]) -> int:
    """Run the parts one after the other, and print the table.

    Returns:
        1 if a part failed, or was not run as this was interrupted.
    """
    options = parse_arguments(arguments)
    name = device_name(options.device)
    out = (options.out or folder_for(name)).resolve()
    out.mkdir(parents=True, exist_ok=True)
    console = Console(markup=False, highlight=False)
    chosen = [
        part
        for part in parts(options.device, out, quick=options.quick)
        if options.only is None or part.name in options.only
    ]
    outcomes: list[Outcome] = []
    try:
        run_all(chosen, out, options.device, console, outcomes)
    except KeyboardInterrupt:
        console.print("interrupted")
    console.print(table(outcomes, name))
    console.print(f"Results, and what each part printed: {out}", soft_wrap=True)
    return int(len(outcomes) < len(chosen) or any(outcome.failed for outcome in outcomes))


def run_all(chosen: Sequence[Part], out: Path, device: str, console: Console, outcomes: list[Outcome]) -> None:
    """Run parts one after the other, each with its own time and what is left of that of those before it.

    Args:
        chosen: The parts.
        out: For results and logs.
        device: `cuda` or `cpu`.
        console: Told which one runs.
        outcomes: Gets what became of each.
    """
    spare = 0.0
    for part in chosen:
        limit = part.limit + spare
        console.print(f"{part.name}: at most {limit:.0f} s")
        outcomes.append(run(part, out, device=device, limit=limit))
        spare = max(0.0, limit - outcomes[-1].seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
