"""The section of a recipe that says where a student's first weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from headstart.config import Config, Fraction


class Init(Config):
    """An older model whose weights the student starts from, also one of another shape. See docs/init.md."""

    model_config = ConfigDict(serialize_by_alias=True)

    source: str = Field(alias="from")
    """The older model: a name from the recipe's `teachers`, a run folder, or whatever else a teacher can be."""
    how: Literal["auto", "copy", "select", "grow"] = "auto"
    """copy: of the same shape; select: cut out of a larger one; grow: out of a smaller one; auto: what each axis asks
    for. The others refuse a source that does not fit them."""
    scores: Literal["spaced", "first", "activation"] = "spaced"
    """Which units of a larger source are kept: evenly spaced ones, the first ones, or those that give most on
    `batches`."""
    compensate: bool = False
    """Fit the layers that read what attention and MLP give by least squares on `batches`, so that with some of their
    inputs they give the nearest to what they gave with all."""
    shrink: float = Field(1.0, gt=0)
    """For a source of the same shape: its weights times this ..."""
    perturb: float = Field(0.0, ge=0)
    """... plus fresh ones times this (0.4 and 0.1 in arXiv 1910.08475)."""
    batches: PositiveInt = 8
    """Training batches to score and compensate by, and to take the statistics of BatchNorm anew."""
    require: Fraction = 0.0
    """Refuse to start if less than this share of the student's parameters comes from the source."""

    @model_validator(mode="after")
    def _mixed_only_with_the_same_shape(self) -> Init:
        if (self.shrink, self.perturb) != (1.0, 0.0) and self.how in ("select", "grow"):
            raise ValueError(
                f"shrink and perturb are for a source of the same shape (how: copy), and not for {self.how}"
            )
        return self


def with_init_section(content: Any) -> Any:
    """A recipe's content with an `init` section in place of `train.init_from`, the key that it was before.

    Raises:
        ValueError: It has both.

    Example:
        >>> with_init_section({"train": {"steps": 5, "init_from": "old"}})
        {'train': {'steps': 5}, 'init': {'from': 'old', 'how': 'copy', 'require': 1.0}}
    """
    train = content.get("train") if isinstance(content, Mapping) else None
    if not isinstance(train, Mapping) or "init_from" not in train:
        return content
    source = train["init_from"]
    rest = {**content, "train": {key: value for key, value in train.items() if key != "init_from"}}
    if source is None:
        return rest
    if content.get("init") is not None:
        raise ValueError(
            "train.init_from is an older name of init: {from: ..., how: copy}; give the init section alone"
        )
    return {**rest, "init": {"from": source, "how": "copy", "require": 1.0}}
