"""Checkpoints of a sharded student: each process writes its shards, and any number of processes reads them."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from headstart.errors import HeadstartError
from headstart.files import write_atomically
from headstart.train import ranks
from headstart.train.state.checkpoint import checkpoint_path, not_written, remove, remove_others

_METADATA = ".metadata"
_DIGEST = "metadata.blake2b"
_SMALL = "small.json"
_WHOLE = "whole."
# All that the metadata of tensors is made of. What else a pickle may name could run code.
_HARMLESS = {
    "pathlib": {"PosixPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
}


def save_sharded(
    folder: Path,
    step: int,
    seconds: float,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    small: Mapping[str, Any] | None = None,
    whole: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint in a folder beside its place, then move it there. All processes have to call it.

    Args:
        folder: The run folder, the same for all processes.
        step: Steps done.
        seconds: Training time so far.
        model: The student, sharded or whole.
        optimizer: Its optimiser.
        small: Plain numbers and words, the same on all processes.
        whole: Tensors beside the student, the same on all processes.

    Raises:
        HeadstartError: It could not be written; those before are still there.
    """
    target = checkpoint_path(folder, step, sharded=True)
    beside = folder / f".{target.name}.tmp"
    progress = {"step": torch.tensor(step), "seconds": torch.tensor(seconds, dtype=torch.float64)}
    beside_it = {f"{_WHOLE}{name}": value for name, value in (whole or {}).items()}
    state = {**_model_state(model), **_optimizer_state(model, optimizer), **beside_it, **progress}
    try:
        with _quietly():
            save(state, checkpoint_id=beside, no_dist=ranks.count() == 1)
        if ranks.is_main():
            write_atomically(beside / _SMALL, json.dumps(small or {}).encode())
            write_atomically(beside / _DIGEST, _digest(_summed(beside)))
            remove(target)
            beside.replace(target)
            remove_others(folder, step)
    except (CheckpointException, OSError, RuntimeError) as error:
        raise not_written(target, _reason(error)) from None


def load_sharded(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float, Mapping[str, Any], Mapping[str, Tensor]]:
    """Read a checkpoint, whatever the number of processes that wrote it. All processes have to call it.

    Returns:
        Steps done, training time so far in seconds, the plain numbers and words, and the tensors beside the student.

    Raises:
        HeadstartError: It is damaged, or of another model; raised on all processes.
    """
    reader = _Reader(path)
    metadata, reason = _read_metadata(reader)
    if not ranks.everywhere(metadata is not None) or metadata is None:
        raise HeadstartError(f"{path}: cannot be read ({reason or 'by another process'})")
    slots = _optimizer_slots(metadata, model)
    progress = {"step": torch.tensor(0), "seconds": torch.tensor(0.0, dtype=torch.float64)}
    whole = {name: _empty(stored) for name, stored in metadata.state_dict_metadata.items() if name.startswith(_WHOLE)}
    state = {**_model_state(model), **_named(slots), **whole, **progress}
    try:
        with _quietly():
            load(state, storage_reader=reader, no_dist=ranks.count() == 1)
    except (Exception, CheckpointException) as error:  # which one a damaged file leads to depends on the damage
        raise HeadstartError(f"{path}: cannot be read ({_reason(error)})") from None
    parameters = dict(model.named_parameters())
    for name, values in slots.items():
        optimizer.state[parameters[name]] = values
    beside = {name.removeprefix(_WHOLE): value for name, value in whole.items()}
    return int(progress["step"]), float(progress["seconds"]), reader.small, beside


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _HARMLESS.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a checkpoint's metadata")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    """Reads metadata without executing code, and looks at the check sums of tensors, which torch does not."""

    small: Mapping[str, Any] = MappingProxyType({})

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        place = Path(self.path)
        if (place / _DIGEST).read_bytes() != _digest(_summed(place)):
            raise pickle.UnpicklingError(f"{_METADATA} has changed since it was written")
        if (place / _SMALL).exists():  # checkpoints of earlier versions have none
            self.small = json.loads((place / _SMALL).read_bytes())
        metadata: Metadata = _Unpickler(io.BytesIO((place / _METADATA).read_bytes())).load()
        return metadata

    def _slice_file(self, file: Any, sinfo: Any) -> IO[bytes]:
        part = io.BytesIO(super()._slice_file(file, sinfo).read(sinfo.length))
        with zipfile.ZipFile(part) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{sinfo.relative_path}: the check sum of {damaged} is wrong")
        part.seek(0)
        return part


def _read_metadata(reader: _Reader) -> tuple[Metadata | None, str]:
    try:
        return reader.read_metadata(), ""
    except Exception as error:  # as above
        return None, str(error)


def _summed(place: Path) -> bytes:
    """What the digest of a checkpoint is of."""
    return (place / _METADATA).read_bytes() + ((place / _SMALL).read_bytes() if (place / _SMALL).exists() else b"")


def _model_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that have several names once."""
    kept = model.state_dict().keys()
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return {f"model.{name}": value.detach() for name, value in named if name in kept}


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser keeps of each parameter; its settings are the recipe's."""
    return _named({name: optimizer.state.get(parameter, {}) for name, parameter in model.named_parameters()})


def _optimizer_slots(metadata: Metadata, model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Where to put what the checkpoint holds of the optimiser: like the parameter, or a number."""
    slots: dict[str, dict[str, Tensor]] = {}
    parameters = dict(model.named_parameters())
    for key, stored in metadata.state_dict_metadata.items():
        kind, _, rest = key.partition(".")
        name, _, slot = rest.rpartition(".")
        if kind == "optimizer" and name in parameters:
            like = parameters[name]
            dtype = stored.properties.dtype  # type: ignore[union-attr]  # the unpickler lets nothing but tensors in
            alike = stored.size == like.shape  # type: ignore[union-attr]
            empty = torch.zeros_like(like, dtype=dtype) if alike else torch.zeros(stored.size, dtype=dtype)  # type: ignore[union-attr]
            slots.setdefault(name, {})[slot] = empty
    return slots


def _empty(stored: Any) -> Tensor:
    return torch.zeros(stored.size, dtype=stored.properties.dtype)


def _named(slots: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"optimizer.{name}.{slot}": value for name, values in slots.items() for slot, value in values.items()}


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warning that there is one process; that is known."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _reason(error: BaseException) -> BaseException:
    """What went wrong, of all that went wrong on any process."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else ()
    return next((failure for failure, _ in failures), error)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content).hexdigest().encode()
