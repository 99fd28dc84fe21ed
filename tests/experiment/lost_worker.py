"""A training whose process is lost, once, between two checkpoints; in a module that Ray's workers can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord
from headstart.train.run import train
from headstart.train.state.run_folder import RunFolder

ATTEMPTS = "attempts.txt"


def train_lost_once(recipe: Recipe, folder: Path, **options: Any) -> RunRecord:
    """Train; the first attempt in a folder is killed at step 6. Each attempt notes whether there was a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    attempts = folder / ATTEMPTS
    first = not attempts.exists()
    with open(attempts, "a", encoding="utf-8") as file:
        file.write(f"{any(folder.glob('checkpoint*'))}\n")
    if not first:
        return train(recipe, folder, **options)
    with mock.patch.object(RunFolder, "append_metrics", _die_at_step_6):
        return train(recipe, folder, **options)


def _die_at_step_6(self: RunFolder, values: dict[str, Any]) -> None:
    if values["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
