"""What each dimension of a tensor is: the tables of roles that families of models are described by.

A line of a table is a pattern of names, then what the dimensions are; where a name stands for tensors with different
numbers of dimensions (`.*` for weight and bias), one description for each, with | between them:

    layers.#.mlp.fc1.*     inner# <hidden | inner#

In a pattern `#` is the number of a layer, `#0` of the first one, `@` that of a stage, `*` any one part. In a
description `.` is a dimension that has to be equal; `<` marks one that is read (the inputs of a linear layer), `!` one
that is read where the model's head is tied to its embedding (the norm before it); `#` makes an axis the layer's own,
`@` that of its stage, `@-` of the stage before; `+` stands between parts one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

# Axes that are made of others, heads and their channels.
OF_HEADS = ("query", "key", "value", "attended", "query_norm", "key_norm")
# Axes whose entries mean something: they are matched, never cut or tiled.
OF_CONTENT = ("vocabulary", "classes", "positions", "types", "grid")


class Axis(NamedTuple):
    """An axis that tensors share; one with a stack and a layer is that layer's own."""

    base: str
    stack: str = ""
    layer: int = -1


class Dim(NamedTuple):
    """A dimension of a tensor: the axes that lie in it one after the other (none: it has to be equal), and its use."""

    axes: tuple[Axis, ...]
    reads: bool = False
    reads_if_tied: bool = False


Roles = tuple[Dim, ...]


class Place(NamedTuple):
    """Where a tensor stands: its roles, and its layer in a stack of layers."""

    roles: Roles
    stack: str = ""
    layer: int = -1


class Table:
    """The roles of a family.

    Args:
        text: Lines as this module describes them.

    Example:
        >>> place = Table("layers.#.fc.*  inner# <hidden | inner#").find("layers.3.fc.weight", 2)
        >>> place.roles[0].axes, place.roles[1].reads
        ((Axis(base='inner', stack='layers', layer=3),), True)
    """

    def __init__(self, text: str) -> None:
        lines = [line.split(maxsplit=1) for line in text.strip().splitlines() if line.strip()]
        self.lines = [(_regex(pattern), [spec.split() for spec in specs.split("|")]) for pattern, specs in lines]

    def find(self, name: str, dims: int, aliases: Mapping[str, str] | None = None) -> Place | None:
        """Where a tensor stands; None: the table does not know it.

        Args:
            name: Without what wrappers and parents put before it.
            dims: How many dimensions it has.
            aliases: Other names of axes.
        """
        for pattern, specs in self.lines:
            found = pattern.fullmatch(name)
            spec = next((spec for spec in specs if len(spec) == dims), None)
            if found and spec is not None:
                where = {"stage": None, "layer": None} | found.groupdict()
                stack = name[: found.start("layer") - 1] if where["layer"] else ""
                layer = int(where["layer"]) if where["layer"] else -1
                roles = tuple(_dim(word, where["stage"], stack, layer, aliases or {}) for word in spec)
                return Place(roles, stack, layer)
        return None


def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern of names as a regular expression."""
    text = re.escape(pattern).replace(r"\#0", "(?P<layer>0)").replace(r"\#", r"(?P<layer>\d+)")
    return re.compile(text.replace("@", r"(?P<stage>\d+)").replace(r"\*", r"[^.]+"))


def _dim(word: str, stage: str | None, stack: str, layer: int, aliases: Mapping[str, str]) -> Dim:
    if word == ".":
        return Dim(())
    axes = []
    for part in word.strip("<!").split("+"):
        own = part.endswith("#")
        base = part.removesuffix("#")
        if stage is not None:
            base = base.replace("@-", str(int(stage) - 1)).replace("@", stage)
        axes.append(Axis(aliases.get(base, base), stack, layer) if own else Axis(aliases.get(base, base)))
    return Dim(tuple(axes), word.startswith("<"), word.endswith("!"))
