"""Trainings that are killed: each in a process of its own, by a real SIGKILL, at a known point."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch

from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from headstart.train.state.checkpoint import save_checkpoint
from headstart.train.state.run_folder import METRICS, RunFolder
from tests.train.forked import CONTEXT


def train_until_killed(recipe: Recipe, folder: Path, point: str) -> None:
    """Train in a process that kills itself at one of `POINTS`; returns when it is dead."""
    process = CONTEXT.Process(target=_train, args=(recipe, folder, point))
    process.start()
    process.join(600)  # long, for machines that do other work too
    assert process.exitcode == -signal.SIGKILL, f"ended with {process.exitcode} instead of being killed"


def _train(recipe: Recipe, folder: Path, point: str) -> None:
    torch.set_num_threads(1)
    POINTS[point]()
    train(recipe, folder)


def _die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _before_the_first_checkpoint() -> None:
    _replace_checkpoint(1, _die)


def _while_the_first_checkpoint_is_written() -> None:
    _replace_checkpoint(1, _save_half)


def _after_the_first_checkpoint() -> None:
    _replace_checkpoint(1, _save_and_die)


def _while_the_second_checkpoint_is_written() -> None:
    _replace_checkpoint(2, _save_half)


def _in_a_line_of_metrics() -> None:
    whole = RunFolder.append_metrics

    def half(self: RunFolder, values: dict[str, Any]) -> None:
        if values["step"] == 6:
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write('{"step": 6, "seco')
            _die()
        whole(self, values)

    mock.patch.object(RunFolder, "append_metrics", half).start()


def _between_weights_and_record() -> None:
    mock.patch("headstart.train.state.run_folder.write_record", _die).start()


POINTS: dict[str, Callable[[], None]] = {
    "before the first checkpoint": _before_the_first_checkpoint,
    "while the first checkpoint is written": _while_the_first_checkpoint_is_written,
    "after the first checkpoint": _after_the_first_checkpoint,
    "while the second checkpoint is written": _while_the_second_checkpoint_is_written,
    "in a line of metrics": _in_a_line_of_metrics,
    "between weights and record": _between_weights_and_record,
}


def _replace_checkpoint(number: int, save: Callable[[Path, dict[str, Any]], None]) -> None:
    """Save the checkpoint of that number, counted from 1, in another way."""
    calls = 0

    def counted(folder: Path, state: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        (save if calls == number else save_checkpoint)(folder, state)

    mock.patch("headstart.train.state.resume.save_checkpoint", counted).start()


def _save_half(folder: Path, state: dict[str, Any]) -> None:
    mock.patch("os.fsync", _die).start()
    save_checkpoint(folder, state)


def _save_and_die(folder: Path, state: dict[str, Any]) -> None:
    save_checkpoint(folder, state)
    _die()
