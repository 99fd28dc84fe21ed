"""The base of everything a recipe says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# The generators of weights, order, augmentation and draw take 64-bit numbers, and some of them multiply the seed first.
SEEDS = 2**32
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """A frozen part of a recipe; unknown keys are refused, so that a typo never trains something else."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys; an empty mapping leaves nothing.

    Args:
        settings: What a recipe or a part of it says.
        before: What all keys begin with.

    Example:
        >>> flat({"train": {"lr": 0.1, "clip_norm": None}, "distill": {"teachers": ["old"]}})
        {'train.lr': 0.1, 'train.clip_norm': None, 'distill.teachers': ['old']}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def settings_told(values: Mapping[str, Any]) -> str:
    """Settings in a line.

    Example:
        >>> settings_told({"train.lr": 0.1, "distill.loss": "kl"})
        'train.lr=0.1, distill.loss=kl'
    """
    return ", ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


def defaults_of(section: type[BaseModel]) -> dict[str, Any]:
    """What each key of a section is where it is not given, by dotted key; keys that must be given are not there.

    Example:
        >>> class Wings(Config):
        ...     count: int
        ...     colour: str = "blue"
        >>> defaults_of(Wings)
        {'colour': 'blue'}
    """
    fields = {name: field for name, field in section.model_fields.items() if not field.is_required()}
    values = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    nested = {name: value.model_dump(mode="json") for name, value in values.items() if isinstance(value, BaseModel)}
    return flat(values | nested)
