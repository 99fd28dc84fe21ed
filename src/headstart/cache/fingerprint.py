"""What a cache's targets depend on, in a form that can be compared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from headstart.cache.batches import BatchMaker, EachView
from headstart.config import flat
from headstart.distill import Teacher
from headstart.records import Finite, Record

_SKETCHED = 8  # samples
_PROJECTIONS = 8
_TOLERANCE = 1e-4  # devices round differently; another crop, mask or normalisation is far beyond


class Fingerprint(Record):
    """What targets depend on. Two that agree stand for the same targets of the same samples.

    Attributes:
        data: Settings of data, augmentation or masking, tokenizer and seed, in words that tell a user what differs.
        inputs: A sketch of some samples as the student is given them, the first ones of its order, or of a cache by
            view some of all: it sees what the settings do not tell, such as changed files or another version of the
            augmentation.
        teacher: A hash of the weights; dtypes; which classes are the student's. None where there is no teacher at hand;
            nothing about it is compared then.
        prepared: A sketch of the same samples as the teacher is given them: its own normalisation and resolution.
        defaults: What settings mean that `data` of an older cache does not have yet, by dotted key. Not kept.
    """

    data: dict[str, Any]
    inputs: list[Finite]
    teacher: dict[str, str] | None
    prepared: list[Finite]
    defaults: dict[str, Any] = Field(default={}, exclude=True)


def fingerprint(
    teacher: Teacher | None, task: BatchMaker, data: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Fingerprint:
    """The fingerprint of a task, and of a live teacher on it.

    Args:
        teacher: The teacher, where it is at hand.
        task: Gives the inputs; of a cache by view an `EachView`.
        data: See `Fingerprint`; JSON.
        defaults: As there. Default: none.
    """
    first = task.spread(_SKETCHED) if isinstance(task, EachView) else [task.batch(0, min(_SKETCHED, task.samples))]
    of_data: dict[str, Any] = {
        "data": json.loads(json.dumps(dict(data))),  # as it will be read again
        "inputs": [number for batch in first for number in sketch(batch.inputs)],
        "defaults": dict(defaults or {}),
    }
    if teacher is None:
        return Fingerprint(**of_data, teacher=None, prepared=[])
    options = {name: str(getattr(teacher, name)) for name in ("autocast", "dtype", "classes")}
    if teacher.temperature != 1.0:  # else as caches have it that know nothing of temperatures
        options["temperature"] = str(teacher.temperature)
    described = {"weights": weights_hash(teacher.module.state_dict()), **options}
    prepared = [number for batch in first for number in sketch(teacher.prepared(batch.inputs))]
    return Fingerprint(**of_data, teacher=described, prepared=prepared)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """A hash of all tensors of a state dict, with their names, shapes and dtypes.

    Example:
        >>> a, b = torch.zeros(2), torch.ones(2)
        >>> weights_hash({"a": a, "b": b}) == weights_hash({"b": b, "a": a}) != weights_hash({"a": b, "b": a})
        True
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sketch(inputs: Any) -> list[float]:
    """A few numbers that change with the inputs: their mean, and sums with cosines of several frequencies.

    Args:
        inputs: A tensor, or a tuple or mapping of tensors and other things, which are left out.

    Example:
        >>> image = torch.arange(16.0).view(1, 1, 4, 4)
        >>> sketch(image)[0], sketch(image) == sketch(image.flip(-1))
        (7.5, False)
    """
    numbers = []
    for value in _tensors(inputs):
        row = value.detach().cpu().double().flatten()
        angles = torch.arange(len(row), dtype=torch.float64)
        waves = [row @ torch.cos(frequency * 0.7 * angles) for frequency in range(1, _PROJECTIONS)]
        numbers += [row.mean().item(), *(wave.item() / math.sqrt(len(row)) for wave in waves)]
    return numbers


def differences(cached: Fingerprint, now: Fingerprint) -> list[str]:
    """What differs, a line each; none where the two agree."""
    lines = _differing("data", cached.data, now.data, now.defaults)
    if not lines and not _close(cached.inputs, now.inputs):
        lines.append("inputs: the samples look different; files, or the code of the augmentation, have changed")
    if cached.teacher is None or now.teacher is None:
        return lines
    of_teacher = _differing("teacher", cached.teacher, now.teacher)
    if not lines and not of_teacher and not _close(cached.prepared, now.prepared):
        of_teacher.append("teacher: it is given other normalisation or resolution, so that images look different to it")
    return lines + of_teacher


def _differing(
    section: str, old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> list[str]:
    after = flat(new, f"{section}.")
    lacking = {f"{section}.{key}": value for key, value in (defaults or {}).items() if f"{section}.{key}" in after}
    before = lacking | flat(old, f"{section}.")
    return [
        f"{key}: {_shown(before.get(key))} in the cache, {_shown(after.get(key))} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _tensors(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, Mapping):
        inputs = tuple(inputs[key] for key in sorted(inputs))
    for value in inputs if isinstance(inputs, tuple) else (inputs,):
        if isinstance(value, Tensor):
            yield value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _close(old: list[float], new: list[float]) -> bool:
    pairs = zip(old, new, strict=False)
    return len(old) == len(new) and all(abs(a - b) <= _TOLERANCE * (1.0 + abs(a)) for a, b in pairs)
