"""A newcomer's first hour: installing, demo and tests from a fresh clone, and what the demo said: newcomer.json.

Usage: python benchmarks/newcomer.py [--busy 0] [--there 0] [--skip-test] [--pip-flags FLAGS] [--out FOLDER]

It clones this repository, as it was committed last, into a temporary folder, and runs there what README.md says. With
`--busy 4` four processes compute beside it without end, and the result is newcomer-busy.json: is all still green? Of
these `--there 2` counts two that run already, such as the workers of a race that is under way.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from headstart.errors import HeadstartError
from headstart.race import judge, read_race
from headstart.records import RaceRecord
from headstart.report import verdict_sentence
from headstart.report.sentences import primary_result
from results_file import RESULTS, Figure, command_line, finish

ROOT = Path(__file__).resolve().parent.parent
_OURS = ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # no newcomer has these set


def first_hour(clone: Path, environment: Mapping[str, str], flags: str, *, test: bool) -> dict[str, Figure]:
    """What README.md says, in a clone: how long each part took, in minutes.

    Raises:
        HeadstartError: A part failed; its last lines are in the message.
    """
    targets = {"install": ".venv/installed", "demo": "demo"}
    targets |= {"install_for_tests": ".venv/installed-dev", "test": "test"} if test else {}
    figures = {}
    for name, target in targets.items():
        minutes = _make(clone, target, environment, flags) / 60
        figures[f"{name}_minutes"] = Figure(value=minutes, unit="min")
        print(f"{name}: {minutes:.1f} min", flush=True)
    return figures


def said(race: RaceRecord) -> dict[str, Figure]:
    """The verdict of the demo, as figures."""
    result = primary_result(race)
    assert result is not None
    figures = {"demo_resolved": Figure(value=float(result.verdict != "not resolved"))}
    if result.speedup is not None:
        estimate = result.speedup
        figures["demo_speedup"] = Figure(value=estimate.value, low=estimate.low, high=estimate.high, n=len(race.seeds))
    return figures


def _make(clone: Path, target: str, environment: Mapping[str, str], flags: str) -> float:
    """Seconds that a target took."""
    begin = time.perf_counter()
    command = ["make", target, f"PIP_FLAGS={flags}"]
    done = subprocess.run(command, cwd=clone, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise HeadstartError(f"make {target} failed with {done.returncode}:\n{last}")
    return time.perf_counter() - begin


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Processes that compute without end, for as long as this lasts."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it")
    parser.add_argument("--there", type=int, default=0, help="how many of these do so already, as a race's workers")
    parser.add_argument("--skip-test", action="store_true", help="the demo only")
    parser.add_argument("--pip-flags", default="", help="as make's PIP_FLAGS")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Clone, run, write the result file."""
    options = parse_arguments(arguments)
    if options.there > options.busy:
        raise HeadstartError(f"--there {options.there} are more than --busy {options.busy}, which counts all of them")
    begin = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    with tempfile.TemporaryDirectory() as folder, _busy(options.busy - options.there):
        clone = Path(folder) / "headstart"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
        cloned = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, check=True, capture_output=True, text=True)
        figures = first_hour(clone, environment, options.pip_flags, test=not options.skip_test)
        race = judge(read_race(clone / "runs" / "demo"))
    print(verdict_sentence(race), flush=True)
    figures |= said(race)
    finish(
        "newcomer-busy" if options.busy else "newcomer",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        begin=begin,
        folder=options.out,
        revision=cloned.stdout.strip()[:12],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
