"""Checkpoints: atomic, checked, and read without executing code. The last two are kept, should one be damaged."""

from __future__ import annotations

import logging
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from headstart.errors import HeadstartError
from headstart.files import atomic_file
from headstart.train import ranks

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NAME = re.compile(r"checkpoint-(\d+)(\.pt)?")
_KEPT = 2


def checkpoint_path(folder: Path, step: int, *, sharded: bool = False) -> Path:
    """Where the checkpoint of a step is: a file, or a folder where the student is sharded."""
    return folder / (f"checkpoint-{step}" if sharded else f"checkpoint-{step}.pt")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run folder, the newest first."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=_step, reverse=True)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, flush it, and put it in its place in one move; then remove all but it and the one before.

    Args:
        folder: The run folder.
        state: Tensors and plain values, among them `step`.

    Raises:
        HeadstartError: It could not be written (disk full, say); those before are still there.
    """
    target = checkpoint_path(folder, state["step"])
    try:
        with atomic_file(target) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # Where the disk fails torch in the middle of a file, its own error hides the system's.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise not_written(target, reason) from None
    remove_others(folder, state["step"])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's state, on the CPU.

    Raises:
        HeadstartError: It is damaged.
    """
    try:
        # torch itself does not look at the check sums.
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"the check sum of {damaged} is wrong")
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # which one a damaged file leads to depends on the damage
        raise HeadstartError(f"{path}: cannot be read ({error})") from None


def load_newest(paths: Sequence[Path], load: Callable[[Path], T]) -> T | None:
    """Load the newest checkpoint that can be read, with a warning for each that cannot.

    Args:
        paths: The newest first.
        load: Raises a HeadstartError where a checkpoint is damaged.

    Returns:
        What `load` gave; None where there are no checkpoints.

    Raises:
        HeadstartError: There are some, but none can be read.
    """
    for number, path in enumerate(paths):
        try:
            return load(path)
        except HeadstartError as error:
            if number + 1 == len(paths):
                raise HeadstartError(f"{error}; delete it to begin this run anew") from None
            if ranks.is_main():
                logger.warning("%s; going on from the checkpoint before it", error)
    return None


def remove_others(folder: Path, step: int) -> None:
    """Remove all checkpoints but that of a step and the one before it; later ones are of a time that comes again."""
    before = [path for path in checkpoints(folder) if _step(path) <= step]
    for path in checkpoints(folder):
        if path not in before[:_KEPT]:
            remove(path)


def remove_checkpoints(folder: Path, *, keep: int = 0) -> None:
    """Remove the checkpoints of a finished run, all but some of the newest."""
    for path in checkpoints(folder)[keep:]:
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def not_written(path: Path, reason: object) -> HeadstartError:
    """What to tell about a checkpoint that could not be written."""
    kept = "the checkpoint before is kept" if checkpoints(path.parent) else "there is none before it"
    return HeadstartError(
        f"{path}: the checkpoint of step {_step(path)} could not be written ({reason}); {kept}. "
        "Make room on the disk, then start the same command again: the run resumes"
    )


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])
