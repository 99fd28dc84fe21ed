"""What is known of a family of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headstart.errors import InitError
from headstart.init.picking.grids import Grid
from headstart.init.roles import Table
from headstart.init.side import Side


@dataclass(frozen=True)
class Heads:
    """The attention heads of a model.

    Args:
        count: Heads of queries.
        groups: Heads of keys and values; each serves `count / groups` heads of queries.
        size: Channels of a head.
        rotary: Positions are rotations of pairs of channels (i, i + size / 2).
        theta: Base of their frequencies; None: not known, or several.
        normed: Queries and keys are normalised in each head.
    """

    count: int
    groups: int
    size: int
    rotary: bool = False
    theta: float | None = None
    normed: bool = False


@dataclass(frozen=True)
class Joins:
    """What else ties axes together.

    Args:
        aliases: Axes that are another one under a second name.
        nested: Axes in whose middle another one lies, a shortcut that pads with zeros.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    nested: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A family of models, whose tensors have the same names and roles.

    Args:
        name: For messages.
        sign: A regular expression of a tensor's name that tells the family.
        table: The roles.
        also: Names that have to stand beside it.
        relatives: Sets of `config.model_type` whose weights mean the same to each other; none: any.
        heads: Reads the attention heads of a model with some width; None: it has none.
        tied: Names of the head and of the embedding that it may be tied to.
        joins: Finds what ties axes together, from the names of a model's tensors.
        norms: Layers normalise over the axes that they share, so that only whole multiples keep the outputs.
        first_is_special: The first layer of a stack changes shapes: it is kept, and no other one comes from it.
        first_is_bare: The first layer lacks a norm that all others have: no other comes from it if there is a choice.
        grid: Finds how the positions of a model lie, from their number; None: not known, or it has no such positions.
        closing: A regular expression of the tensors that make a residual block the identity where they are zero.
        older: Regular expressions in names that files keep from earlier versions, and what has taken their place.
        otherwise: Tells of a model with the family's names, by what stands before them, why it is none of it.
    """

    name: str
    sign: str
    table: Table
    also: tuple[str, ...] = ()
    relatives: tuple[frozenset[str], ...] = ()
    heads: Callable[[Side, int], Heads] | None = None
    tied: tuple[str, str] | None = None
    joins: Callable[[Side], Joins] = lambda side: Joins()
    norms: bool = True
    first_is_special: bool = False
    first_is_bare: bool = False
    closing: str | None = None
    older: tuple[tuple[str, str], ...] = ()
    grid: Callable[[Side, int], Grid | None] = lambda side, positions: None
    otherwise: Callable[[Side, str], str | None] = lambda side, prefix: None

    def prefix(self, side: Side) -> str | None:
        """What stands before the names of the family's tensors in a model; None: it is none of the family."""
        known = side.setting("model_type")
        if known is not None and self.relatives and not any(known in group for group in self.relatives):
            return None
        prefix = self._named(side)
        return None if prefix is None or self.otherwise(side, prefix) is not None else prefix

    def differs(self, side: Side) -> str | None:
        """Why a model with the family's names is none of it; None: it has other names, or is of the family."""
        prefix = self._named(side)
        return None if prefix is None else self.otherwise(side, prefix)

    def _named(self, side: Side) -> str | None:
        found = (re.fullmatch(rf"((?:.+\.)?){self.sign}", name) for name in side.names)
        prefixes = (match[1] for match in found if match)
        return next((prefix for prefix in prefixes if all(prefix + name in side.names for name in self.also)), None)

    def related(self, student: Side, source: Side) -> bool:
        """Weights of the source mean the same in the student."""
        kinds = {kind for side in (student, source) if (kind := side.setting("model_type")) is not None}
        return not self.relatives or any(kinds <= group for group in self.relatives)


def heads_of(side: Side, hidden: int, *, rotary: bool = False, normed: bool = False) -> Heads:
    """The attention heads that a configuration describes.

    Raises:
        InitError: The configuration does not say how many there are, or heads are not whole.
    """
    count = side.setting("num_attention_heads", "n_heads", "n_head", "num_heads")
    if count is None:
        raise InitError(
            f"{side.who}: how many attention heads it has is not in its tensors; "
            f"give {side.who}_config, its configuration (num_attention_heads, and num_key_value_heads if it has fewer)"
        )
    groups = side.setting("num_key_value_heads") or count
    size = side.setting("head_dim")
    if size is None and hidden % count:
        raise InitError(f"{side.who}: {count} attention heads do not divide a width of {hidden}: heads are not whole")
    if count % groups:
        raise InitError(f"{side.who}: {groups} heads of keys and values do not divide {count} heads of queries")
    rope = side.setting("rope_parameters") or {}
    theta = rope.get("rope_theta") or side.setting("rope_theta")
    return Heads(count, groups, size or hidden // count, rotary, theta if rotary else None, normed)
