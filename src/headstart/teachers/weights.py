"""Weights from files, read without executing code."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from headstart.errors import TeacherError
from headstart.teachers.torch_files import read_torch
from headstart.teachers.wrappers import is_averaged, without_wrappers

DESCRIPTION_KEY = "headstart"  # of the safetensors header: what the weights are, as JSON
_NESTS = ("state_dict", "model_state_dict", "model", "net", "module")  # what training programs call weights, by custom
_NO_WEIGHTS = ("optim", "sched", "lr_", "scaler", "rng", "amp", "random", "loops", "criterion", "loss")
_DEPTH = 6

_log = logging.getLogger(__name__)

States = dict[str, dict[str, Tensor]]


def read_weights(path: str | Path, *, weights: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from `.safetensors`, or from a torch file (`.pt`, `.pth`, `.pth.tar`, `.bin`, `.ckpt`, ...).

    The index of a file in parts (`model.safetensors.index.json`) reads all of them. A state dict inside a checkpoint
    (`state_dict`, `model`, `net`, at any depth) is found; what DDP, `torch.compile`, FSDP, and activation checkpointing
    add to names is taken off. Settings and numbers beside it are passed over.

    Args:
        path: The file.
        weights: Which to take where a checkpoint holds several: `ema` (averaged over training), `raw`, or the key.
            By default the averaged ones; a warning says so.

    Raises:
        TeacherError: The file is missing, truncated, corrupt, or would need to execute code; or it is not known which
            of its state dicts is meant.
    """
    states = read_states(path)
    place = choose(usual(states) if weights is None else states, weights, str(path))
    return without_wrappers(states[place])


def read_states(path: str | Path) -> States:
    """All state dicts that a file holds, by their places in it (`state.model`; empty where it is the file itself)."""
    path = Path(path)
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; a teacher's weights are a .safetensors or a weights-only .pt file")
    if path.suffix == ".json":
        return {"": {name: value for part in parts_of(path) for name, value in _file(part)[""].items()}}
    return _file(path)


def usual(states: States) -> list[str]:
    """Of the places in a file those that are a model by their names; all where none is."""
    known = [place for place in states if place.rpartition(".")[2] in ("", *_NESTS) or is_averaged(place)]
    return known or list(states)


def choose(places: Iterable[str], wanted: str | None, origin: str) -> str:
    """Which of several places in a file to take weights from.

    Args:
        places: That hold weights which fit.
        wanted: `ema`, `raw`, a place, or None.
        origin: The file, for messages.

    Raises:
        TeacherError: There is none such, or more than one.
    """
    places = list(places)
    listed = ", ".join(repr(place or "the file itself") for place in places)
    averaged = [place for place in places if is_averaged(place)]
    raw = [place for place in places if place not in averaged]
    if wanted is not None:
        named = [place for place in places if place == wanted or place.endswith(f".{wanted}")]
        kind = named or {"ema": averaged, "raw": raw}.get(wanted, [])
        if not kind:
            raise TeacherError(f"{origin}: has no weights {wanted!r} that fit; it has {listed}")
    else:
        kind = averaged or raw
    outermost = [place for place in kind if place.rpartition(".")[2] in _NESTS] if len(kind) > 1 else kind
    if len(kind) > 1 and len(outermost) != 1:
        raise TeacherError(f"{origin}: holds several models ({listed}); say which: weights={kind[0]!r}")
    taken = outermost[0]
    if wanted is None and averaged and raw:
        _log.warning(
            "%s: holds averaged weights (%r) beside raw ones (%r); the averaged ones are taken. weights='raw' takes "
            "the others",
            origin,
            taken,
            raw[0],
        )
    return taken


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


def _file(path: Path) -> States:
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; the index beside it names it")
    if path.suffix == ".safetensors":
        return {"": dict(_read_safetensors(path))}
    content = read_torch(path)
    if not isinstance(content, dict):
        raise TeacherError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    found = dict(_states(content))
    if not found:
        raise TeacherError(
            f"{path}: holds no tensors; save the model's state_dict()"
            + (f" (its keys are {', '.join(map(repr, list(content)[:8]))})" if content else "")
        )
    return _as_averaged(found)


def _states(content: Mapping[Any, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """State dicts at any depth: mappings of names to tensors, those of optimisers left out."""
    if "param_groups" in content or depth > _DEPTH:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    inner = [
        state
        for name, value in content.items()
        if isinstance(value, Mapping) and isinstance(name, str) and not name.lower().startswith(_NO_WEIGHTS)
        for state in _states(value, f"{place}.{name}" if place else name, depth + 1)
    ]
    # Beside a nest, a tensor is a number or a mask of the program's: an epoch, a best score.
    if tensors and not (inner and all("." not in name for name in tensors)):
        yield place, tensors
    yield from inner


def _as_averaged(found: States) -> States:
    """Lightning's WeightAveraging keeps the averaged weights as `state_dict`, and the raw ones elsewhere."""
    if "current_model_state" not in found or "state_dict" not in found:
        return found
    return {
        {"state_dict": "state_dict_ema", "current_model_state": "state_dict"}.get(k, k): v for k, v in found.items()
    }


def parts_of(index: Path) -> list[Path]:
    """The files that an index names, all in its own folder."""
    return sorted(set(read_index(index).values()))


def read_index(index: Path) -> dict[str, Path]:
    """For each tensor that an index names the file that holds it, all in its own folder."""
    try:
        named = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"].items())
        names = set(named.values())
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TeacherError(f"{index}: is no index of weights in parts ({type(error).__name__}: {error})") from None
    for name in names:
        if Path(name).name != name or name.endswith(".json"):
            raise TeacherError(f"{index}: names {name!r}, which is no weights' file of the same folder")
    return {tensor: index.parent / name for tensor, name in named.items()}


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> TeacherError:
    """What is said of a safetensors file that cannot be read."""
    return TeacherError(f"{path}: cannot be read as safetensors ({error}); the file is truncated or damaged")
