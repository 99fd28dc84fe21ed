"""Settings that are chosen before a race: lists of values by dotted key."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from headstart.config import flat

# What a run is judged by and how long it is: that is the same for all that is compared.
_FIXED = {
    "task", "race", "name",
    "train.epochs", "train.steps", "train.seed", "train.first_cycle",
    "data.name", "data.subset", "data.documents", "data.evaluate", "data.holdout", "data.tuning",
}  # fmt: skip


def every_combination(values: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """All settings that lists of values make, the last key changing fastest.

    Example:
        >>> every_combination({"train.lr": [0.1, 0.2], "train.warmup": [0.5]})
        [{'train.lr': 0.1, 'train.warmup': 0.5}, {'train.lr': 0.2, 'train.warmup': 0.5}]
    """
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def _flattened(given: Any) -> Any:
    """Dotted keys, also where sections were nested as the recipe itself nests them."""
    return flat(given) if isinstance(given, Mapping) else given


def _usable(values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    for key, choices in values.items():
        if key in _FIXED or key.split(".")[0] in _FIXED:
            raise ValueError(f"{key} is the same for all that is compared and cannot be tuned")
        if not choices:
            raise ValueError(f"{key}: the list is empty; give the values to choose from")
        for value in choices:
            if choices.count(value) > 1:
                raise ValueError(f"{key}: {value} is there twice; give each value once")
    return values


Tuned = Annotated[dict[str, list[Any]], BeforeValidator(_flattened), AfterValidator(_usable)]
"""Values to choose from, by dotted key."""
