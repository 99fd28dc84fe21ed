"""Weights from files, read without executing code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.errors import TeacherError

DESCRIPTION_KEY = "headstart"  # of the safetensors header: what the weights are, as JSON
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes that DataParallel, DDP and torch.compile leave in names
_NESTS = ("state_dict", "model_state_dict", "model")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from `.safetensors`, or from a torch file (`.pt`, `.pth`, `.th`, `.bin`, `.ckpt`) of data only.

    The index of a file in parts (`model.safetensors.index.json`) reads all of them. A state dict inside a checkpoint
    (`state_dict`, as Lightning's; `model_state_dict`, `model`) is found; the prefixes that DDP and `torch.compile`
    leave in names are taken off.

    Raises:
        TeacherError: The file is missing, truncated, corrupt, or would need to execute code.
    """
    path = Path(path)
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; a teacher's weights are a .safetensors or a weights-only .pt file")
    if path.suffix == ".json":
        return {name: value for part in _parts(path) for name, value in read_weights(part).items()}
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for nest in _NESTS:
        if isinstance(content.get(nest), dict):
            content = content[nest]
            break
    tensors = {unwrapped(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise TeacherError(f"{path}: holds no tensors; save the model's state_dict()")
    return tensors


def find_description(path: Path) -> dict[str, Any] | None:
    """What a run's safetensors file says about itself; None where it says nothing, or is no such file.

    Raises:
        TeacherError: It is damaged.
    """
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return dict(json.loads(metadata[DESCRIPTION_KEY]))
    except (OSError, SafetensorError) as error:
        raise TeacherError(
            f"{path}: cannot be read as safetensors ({error}); the file is missing, truncated or damaged"
        ) from None
    except (KeyError, TypeError, ValueError):
        return None


def _parts(index: Path) -> list[Path]:
    """The files that an index names, all in its own folder."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TeacherError(f"{index}: is no index of weights in parts ({type(error).__name__}: {error})") from None
    for name in names:
        if Path(name).name != name or name.endswith(".json"):
            raise TeacherError(f"{index}: names {name!r}, which is no weights' file of the same folder")
    return [index.parent / name for name in sorted(names)]


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise TeacherError(
            f"{path}: cannot be read as safetensors ({error}); the file is truncated or damaged"
        ) from None


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise TeacherError(
            f"{path}: is refused, as reading it could execute code (it holds more than tensors and plain values, or is "
            "damaged); in the program that made it, save the weights alone: torch.save(model.state_dict(), path)"
        ) from None
    except Exception as error:  # which one a damaged file leads to depends on the damage
        raise TeacherError(f"{path}: cannot be read ({error}); the file is truncated or damaged") from None
    if not isinstance(content, dict):
        raise TeacherError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    return content


def unwrapped(name: str) -> str:
    """A weight's name without the prefixes that DDP and `torch.compile` leave."""
    while prefix := next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name
