"""The run folder: what a run leaves behind, and what tells a finished run from one to resume."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from headstart.config import flat
from headstart.errors import HeadstartError
from headstart.files import write_atomically
from headstart.recipe.load import dump_recipe, load_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import AutoRecord, InitRecord, RunRecord, read_record, write_record
from headstart.teachers import DESCRIPTION_KEY
from headstart.teachers.find import RECORD, WEIGHTS, is_finished
from headstart.train import ranks
from headstart.train.parallel import gathered
from headstart.train.state.checkpoint import remove, remove_checkpoints

RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
INITIAL = "init.json"
AUTO = "auto.json"
_CHANGES = 3  # told of a recipe that is another one
_LOOK_EVERY = 0.2  # seconds
_SEEN_WITHIN = 30.0  # seconds that a network's file system may take to show a new file


class RunFolder:
    """A folder with `recipe.yaml`, `metrics.jsonl`, `model.safetensors`, `record.json`; checkpoints while it runs.

    And an empty `.lock`, see `claimed`; `init.json`, where the student took its first weights from an older model; and
    `auto.json`, where settings were chosen by a look at the teachers.

    Of several processes one writes; the methods do nothing on the others.

    Args:
        path: Made if it does not exist.
        recipe: What is trained there.

    Raises:
        HeadstartError: The folder holds a run of another recipe, or cannot be written (as every method that writes).
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        self._in_cycles = recipe.train.first_cycle is not None
        existing = path / RECIPE
        if not ranks.is_main():
            return
        if not existing.exists():
            with _writing(existing):
                write_atomically(existing, dump_recipe(recipe).encode())
        elif not same_recipe(existing, recipe):
            raise HeadstartError(
                f"{path}: holds a run of another recipe (in {existing} {_changes(existing, recipe)}); "
                "give another --out, or delete the folder"
            )

    def finished(self) -> RunRecord | None:
        """The record, if the run has finished."""
        return read_record(RunRecord, self.path / RECORD) if is_finished(self.path) else None

    def require_shared(self) -> None:
        """Make sure, before the first step, that all processes see what is written here.

        Raises:
            HeadstartError: One does not; raised on all processes.
        """
        end = time.monotonic() + _SEEN_WITHIN
        while not (seen := (self.path / RECIPE).exists()) and time.monotonic() < end:
            time.sleep(_LOOK_EVERY)
        if not ranks.everywhere(seen):
            raise HeadstartError(
                f"{self.path}: not all processes see what the first one writes there; give an --out on a file system "
                "that all machines share"
            )

    def wait_until_finished(self) -> RunRecord:
        """The record, once the process that writes has written it. Judging may take it hours."""
        while (record := self.finished()) is None:
            time.sleep(_LOOK_EVERY)
        return record

    def keep_initial(self, initial: InitRecord | None) -> None:
        """Write down what the student took over from an older model: a run that is resumed does not do it again."""
        if initial is not None and ranks.is_main():
            with _writing(self.path):
                write_record(initial, self.path / INITIAL)

    def initial(self) -> InitRecord | None:
        """What `keep_initial` wrote."""
        path = self.path / INITIAL
        return read_record(InitRecord, path) if path.exists() else None

    def keep_auto(self, auto: AutoRecord) -> None:
        """Write down what a look at the teachers made of the settings: a run that is resumed does not look again."""
        if ranks.is_main():
            with _writing(self.path):
                write_record(auto, self.path / AUTO)

    def auto(self) -> AutoRecord | None:
        """What `keep_auto` wrote."""
        path = self.path / AUTO
        return read_record(AutoRecord, path) if path.exists() else None

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add a line of metrics."""
        if not ranks.is_main():
            return
        path = self.path / METRICS
        with _writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def go_on_from(self, step: int) -> None:
        """Drop what a killed run left beyond a step: half-written files, and metrics, which will come again."""
        if not ranks.is_main():
            return
        for unfinished in self.path.glob(".*.tmp"):
            remove(unfinished)
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

    def save_weights(self, model: nn.Module, description: dict[str, Any]) -> None:
        """Write the weights, with what says how to use them as a teacher; all processes have to call it."""
        weights = gathered(model)
        if not ranks.is_main():
            return
        # Transformers reads no weights that do not say which framework they are of.
        metadata = {"format": "pt", DESCRIPTION_KEY: json.dumps(description)}
        with _writing(self.path):
            write_atomically(self.path / WEIGHTS, save(weights, metadata=metadata))

    def finish(self, record: RunRecord) -> None:
        """Write the record, which makes a run with weights a finished one, then drop the checkpoints.

        Of a run in cycles the last one stays: a run of more cycles goes on from it.
        """
        with _writing(self.path):
            write_record(record, self.path / RECORD)
        remove_checkpoints(self.path, keep=int(self._in_cycles))


def same_recipe(path: Path, recipe: Recipe, *, but: Iterable[str] = ()) -> bool:
    """Whether a file holds the same recipe but for some keys of `train`.

    How a batch is cut is always one of them, as a run may resume on other machines.
    """
    try:
        existing = load_recipe(path)
    except HeadstartError:
        return False
    train = existing.train.model_copy(update={key: getattr(recipe.train, key) for key in ("accumulate", *but)})
    return existing.model_copy(update={"train": train}) == recipe


def _changes(path: Path, recipe: Recipe) -> str:
    """In which keys a recipe is not the one in a file, the first few."""
    try:
        was, now = flat(load_recipe(path).model_dump(mode="json")), flat(recipe.model_dump(mode="json"))
    except HeadstartError:
        return "is none that this version can read"
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key) and key != "train.accumulate"]
    told = [f"{key} was {was.get(key, 'not there')}, is now {now.get(key, 'not there')}" for key in keys[:_CHANGES]]
    return "; ".join([*told, *(["and more"] if len(keys) > _CHANGES else [])]) or "a mapping was empty, or is now"


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
