"""A program run in each of its forms, and what came of it."""

from __future__ import annotations

import importlib.util
import multiprocessing
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from real_programs.edits import Lines, counted, edited
from real_programs.program import Edit, Setup
from real_programs.recorder import run_recorded

_HERE = Path(__file__).resolve().parent
_TAIL = 4000  # characters of a failed program's output
_SEEDS = {"student": "3", "teacher": "7"}
_CONTEXT = multiprocessing.get_context("forkserver")


_PREPARING = threading.Lock()  # one at a time: transformers' own imports are not made for threads


def preload() -> None:
    """Have processes forked from a server that has done the slow imports and nothing else."""
    _CONTEXT.set_forkserver_preload(["real_programs.recorder", "real_programs.preload"])


class ProgramError(Exception):
    """A program came to no good end."""


@dataclass(frozen=True)
class Record:
    """What a run computed.

    Attributes:
        losses: One for each backward.
        start: All weights before the first step.
        weights: After each step.
    """

    losses: list[float]
    start: Tensor
    weights: list[Tensor]


class Runs:
    """The runs of one set-up, each in a folder of its own.

    Args:
        setup: The set-up.
        programs: The folder of programs.
        folder: For data and runs; is made.
    """

    def __init__(self, setup: Setup, programs: Path, folder: Path) -> None:
        self._setup, self._folder = setup, folder
        self._source = source(setup.script, programs)
        self._text = edited(self._source.read_text(encoding="utf-8"), setup.local)
        self._data = folder / "data"
        self._data.mkdir(parents=True)
        with _PREPARING:
            setup.prepare(self._data)

    def lines(self, edits: Sequence[Edit]) -> Lines:
        """How many lines of the program these edits touch."""
        return counted(self._text, edited(self._text, edits))

    def run(
        self, name: str, edits: Sequence[Edit] = (), *, stop: str = "", start: str = "student", first: str | None = None
    ) -> Record:
        """Run the program.

        Args:
            name: Of the run.
            edits: To the program.
            stop: Where the window ends.
            start: Which first weights, and which seed: `student` or `teacher`.
            first: The run to go on from.

        Raises:
            ProgramError: It failed, or trained nothing.
        """
        folder = self._folder / name
        shutil.copytree(self._source.parent, folder / "program")
        script, out = folder / "program" / self._source.name, folder / "out"
        out.mkdir()
        teacher = str(self._folder / "teacher" / "out" / self._setup.teacher)
        script.write_text(edited(self._text, edits, teacher=teacher, stop=stop), encoding="utf-8")
        values = {"data": self._data, "init": self._data / start, "seed": _SEEDS[start], "out": out}
        if first is not None:
            values["first"] = self._folder / first / "out"
        options = [*self._setup.options, *(self._setup.resume if first is not None else ())]
        filled = [option.format(**values) for option in options]
        process = _CONTEXT.Process(target=run_recorded, args=(str(folder), str(script), filled))
        process.start()
        process.join()
        if process.exitcode != 0 or not (folder / "record.pt").exists():
            told = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
            raise ProgramError(f"{self._setup.name}, {name}: exit code {process.exitcode}\n{told[-_TAIL:]}")
        return _read(folder / "record.pt")


def source(script: str, programs: Path) -> Path:
    """Where a script is: `installed:PACKAGE/PATH`, `own:PATH` of this folder, or a path in the folder of programs."""
    kind, _, path = script.rpartition(":")
    if kind == "own":
        return _HERE / path
    if kind == "installed":
        package, _, inside = path.partition("/")
        found: Any = importlib.util.find_spec(package)
        return Path(found.origin).parent / inside
    return programs / path


def _read(path: Path) -> Record:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    if not found["weights"]:
        raise ProgramError(f"{path.parent}: the program trained nothing, see log.txt there")
    return Record([float(loss) for loss in found["losses"]], found["start"], found["weights"])
