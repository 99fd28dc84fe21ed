"""Checkpoints: atomic, and read without executing code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from headstart.errors import HeadstartError
from headstart.records import atomic_file

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint beside the last one, flush it, and put it in its place in one move.

    Args:
        folder: The run folder.
        state: Tensors and plain values, among them `step`.

    Raises:
        HeadstartError: It could not be written (disk full, say); the checkpoint before is still there.
    """
    target = folder / CHECKPOINT
    try:
        with atomic_file(target) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # Where the disk fails torch in the middle of a file, its own error hides the system's.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        kept = "the checkpoint before is kept" if target.exists() else "there is none before it"
        raise HeadstartError(
            f"{target}: the checkpoint of step {state['step']} could not be written ({reason}); {kept}. "
            "Make room on the disk, then start the same command again: the run resumes"
        ) from None


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The run folder's checkpoint, or None where there is none.

    Raises:
        HeadstartError: It cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # which one a damaged file leads to depends on the damage
        raise HeadstartError(f"{path}: cannot be read ({error}); delete it to begin this run anew") from None


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished run."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
