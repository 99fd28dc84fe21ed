"""TensorBoard, Weights & Biases and MLflow, through Accelerate's trackers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from headstart.config import flat
from headstart.errors import RecipeError
from headstart.extras import recipes_extra
from headstart.recipe.recipe import Recipe
from headstart.records import RaceRecord, RunRecord
from headstart.train import ranks

with recipes_extra():
    from accelerate import Accelerator

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def require_trackers(names: Sequence[str]) -> None:
    """See that the trackers' packages are there, before anything is trained.

    Raises:
        RecipeError: One is not installed.
    """
    for name in names:
        if find_spec(_PACKAGES[name]) is None:
            raise RecipeError(
                f"train.trackers: {name} is not installed; pip install {_PACKAGES[name]}, or take it out of the list"
            )


class Trackers:
    """What a run logs to, besides its own folder; a context manager, which ends the trackers' run.

    TensorBoard's files go to `FOLDER/tensorboard`, so that `tensorboard --logdir` shows a run or a whole race folder.
    Weights & Biases writes to `FOLDER/wandb` and stays offline unless WANDB_MODE says otherwise. MLflow writes where
    its own settings say (MLFLOW_TRACKING_URI). The recipe's name is the project (MLflow: the experiment), the folder's
    the run. Of several processes the first one logs.

    Args:
        recipe: What is trained; `train.trackers` names the trackers, and its settings are logged as configuration.
        folder: The run folder.
        labels: More configuration: what a race knows about the run.

    Raises:
        RecipeError: A tracker's package is not installed.
    """

    def __init__(self, recipe: Recipe, folder: Path, labels: Mapping[str, Any] | None = None) -> None:
        names = recipe.train.trackers
        require_trackers(names)
        self._accelerator: Accelerator | None = None
        if not names:
            return
        # Its state is that of the run's own Accelerator; only the trackers are new.
        self._accelerator = ranks.connect(log_with=list(names), project_dir=str(folder / "tensorboard"))
        offline = os.environ.get("WANDB_MODE", "offline")
        self._accelerator.init_trackers(
            recipe.name,
            config={**_plain(recipe.model_dump(mode="json")), **_plain(labels or {})},
            init_kwargs={
                "wandb": {"name": folder.name, "dir": str(folder), "mode": offline},
                "mlflow": {"run_name": folder.name},
            },
        )

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not Accelerator.end_training: that would end the group of processes as well.
        for tracker in self._accelerator.trackers if self._accelerator is not None else []:
            tracker.finish()

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; `step` is the optimiser step they belong to."""
        if self._accelerator is not None:
            self._accelerator.log(dict(values), step=step)

    def log_result(self, record: RunRecord, step: int) -> None:
        """Log what a run came to."""
        self.log({record.metric: record.quality, "training_seconds": record.seconds, **record.losses}, step)


def track_race(record: RaceRecord, recipe: Recipe, folder: Path) -> None:
    """Log a race's results: a run of its own beside those of the race, with every arm's figures on the headline clock.

    Args:
        record: The race, judged.
        recipe: The recipe raced; nothing happens where it names no trackers.
        folder: The race folder.
    """
    figures: dict[str, float] = {}
    for result in record.results:
        if result.clock == record.headline_clock:
            for name, estimate in (("speedup", result.speedup), ("gain", result.gain)):
                ends = {} if estimate is None else {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
                figures |= {f"{result.arm}/{name}{end}": value for end, value in ends.items() if value is not None}
    with Trackers(recipe, folder, {"primary": record.primary, "clock": record.headline_clock}) as trackers:
        trackers.log(figures, step=0)


def _plain(settings: Mapping[str, Any]) -> dict[str, str | float]:
    """Settings as the trackers take them: dotted keys, plain values, nothing that is not set.

    Example:
        >>> _plain({"train": {"lr": 0.1, "clip_norm": None}, "distill": {"teachers": ["old"]}})
        {'train.lr': 0.1, 'distill.teachers': '["old"]'}
    """
    return {
        key: value if isinstance(value, str | int | float) else json.dumps(value)
        for key, value in flat(settings).items()
        if value is not None
    }
