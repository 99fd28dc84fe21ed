"""The run folder: what a run leaves behind, and what tells a finished run from one to resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from headstart.errors import HeadstartError
from headstart.records import RunRecord, read_record, write_atomically, write_record
from headstart.teachers import DESCRIPTION_KEY
from headstart.teachers.find import RECORD, WEIGHTS
from headstart.train.checkpoint import remove_checkpoint
from headstart.train.load import dump_recipe
from headstart.train.recipe import Recipe

RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"


class RunFolder:
    """A folder with `recipe.yaml`, `metrics.jsonl`, `model.safetensors`, `record.json`; a checkpoint while it runs.

    Args:
        path: Made if it does not exist.
        recipe: What is trained there.

    Raises:
        HeadstartError: The folder holds a run of another recipe, or cannot be written (as every method that writes).
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        text = dump_recipe(recipe)
        existing = path / RECIPE
        if existing.exists() and existing.read_text(encoding="utf-8") != text:
            raise HeadstartError(
                f"{path}: holds a run of another recipe (see {existing}); give another --out, or delete the folder"
            )
        if not existing.exists():
            with _writing(existing):
                write_atomically(existing, text.encode())

    def finished(self) -> RunRecord | None:
        """The record, if the run has finished."""
        path = self.path / RECORD
        return read_record(RunRecord, path) if path.exists() and (self.path / WEIGHTS).exists() else None

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add a line of metrics."""
        path = self.path / METRICS
        with _writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def go_on_from(self, step: int) -> None:
        """Drop what a killed run left beyond a step: half-written files, and metrics, which will come again."""
        for unfinished in self.path.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)
        path = self.path / METRICS
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:
                break
        with _writing(path):
            write_atomically(path, "".join(kept).encode())

    def finish(self, model: nn.Module, description: dict[str, Any], record: RunRecord) -> None:
        """Write weights, then record (which makes the run a finished one), then drop the checkpoint."""
        weights = {name: value.cpu().contiguous() for name, value in _without_ties(model.state_dict()).items()}
        # Transformers reads no weights that do not say which framework they are of.
        metadata = {"format": "pt", DESCRIPTION_KEY: json.dumps(description)}
        with _writing(self.path):
            write_atomically(self.path / WEIGHTS, save(weights, metadata=metadata))
            write_record(record, self.path / RECORD)
        remove_checkpoint(self.path)


def _without_ties(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tensor that has several names once, by the first of them, as safetensors wants it and transformers does it."""
    first: dict[int, str] = {}
    return {
        name: value.detach()
        for name, value in state.items()
        if not value.numel() or first.setdefault(value.data_ptr(), name) == name
    }


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HeadstartError(
            f"{path}: cannot be written ({error.strerror or error}); make room there or give another --out, "
            "then start the same command again: the run resumes"
        ) from None


def peak_memory(device: torch.device) -> int | None:
    """Largest memory in use on the device so far, in bytes; None where torch does not count it (CPU)."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
