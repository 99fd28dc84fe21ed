"""Trains with other people's programs, headstart's lines added, and compares them with the same programs without.

Usage: python benchmarks/works_with.py --programs FOLDER [--only NAME ...] [--out benchmarks/results]
       python benchmarks/works_with.py --fetch FOLDER

`make works-with` does both, in an environment of its own. docs/works-with.md says what is compared.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from real_programs.checks import checked, faults, refused
from real_programs.fetch import fetch, revisions
from real_programs.program import Refused, Setup
from real_programs.runs import ProgramError, preload
from real_programs.setups import REFUSED, SETUPS
from real_programs.table import write_table
from results_file import RESULTS, Figure, new_result, write_result

# Read by the libraries when the programs import them.
_OFFLINE = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}
PACKAGES = (
    "transformers",
    "accelerate",
    "datasets",
    "peft",
    "trl",
    "timm",
    "torchvision",
    "lightning",
    "albumentations",
)


def main(arguments: list[str] | None = None) -> None:
    """Run all, and write the result and the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, help="folder of the programs")
    parser.add_argument("--fetch", type=Path, metavar="FOLDER", help="download the programs into this folder, and end")
    parser.add_argument("--only", nargs="+", help="names of set-ups; the page keeps its table")
    parser.add_argument("--jobs", type=int, default=2, help="set-ups at once")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file")
    options = parser.parse_args(arguments)
    if options.fetch is not None:
        fetch(options.fetch)
        return
    if options.programs is None:
        parser.error("--programs FOLDER names the folder that has them; --fetch FOLDER downloads them")
    programs = options.programs.resolve()  # a program runs in a folder of its own
    begin = time.perf_counter()
    path = filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))  # for the server of processes
    os.environ.update(_OFFLINE, PYTHONPATH=os.pathsep.join(path), HF_HOME=tempfile.mkdtemp(prefix="works-with-"))
    preload()
    cases: list[Setup | Refused] = [*SETUPS, *REFUSED]
    chosen = [case for case in cases if options.only is None or _name(case) in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        answers = list(pool.map(lambda case: _answer(case, programs), chosen))
    figures = {name: figure for answer in answers if answer is not None for name, figure in answer.items()}
    if None in answers:
        sys.exit("A program failed, see above; nothing is written.")
    result = new_result(
        "works-with",
        figures,
        command="make works-with",
        device=torch.device("cpu"),
        seconds=time.perf_counter() - begin,
        packages=PACKAGES,
    )
    result.versions.update(revisions(programs))
    print(write_result(result, options.out))
    if options.only is None:
        write_table(result)
    if wrong := faults(figures):
        sys.exit(f"Not as they should be: {', '.join(wrong)}")


def _name(case: Setup | Refused) -> str:
    return case.name if isinstance(case, Setup) else case.setup.name


def _answer(case: Setup | Refused, programs: Path) -> dict[str, Figure] | None:
    try:
        found = checked(case, programs) if isinstance(case, Setup) else refused(case, programs)
    except (ProgramError, ValueError) as error:
        print(f"FAILED {_name(case)}: {error}", flush=True)
        return None
    told = ", ".join(f"{name} {figure.value:.3g}" for name, figure in found.items())
    print(f"{_name(case)}: {told}", flush=True)
    return {f"{_name(case)}.{name}": figure for name, figure in found.items()}


if __name__ == "__main__":
    main()
