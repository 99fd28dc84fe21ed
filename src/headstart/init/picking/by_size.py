"""Models of no known family: axes told by their sizes alone, where one can be sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from headstart.init.picking.axes import Rule, ways_of
from headstart.init.picking.picks import Pick, choose, matched, whole
from headstart.init.plan import Take, once
from headstart.init.side import Side

_HEADS = ("num_heads", "n_heads", "n_head", "nhead", "num_attention_heads", "num_key_value_groups", "head_dim")


class _Use(NamedTuple):
    """What a layer does with the dimensions of its weight: one it writes, one it reads; the others stay."""

    writes: int = 0
    reads: int | None = None


class BySize:
    """What each tensor of a student takes from the tensor of the same name.

    All axes that are joined have the same two sizes, so that one formula for two sizes treats them alike. An axis that
    changes is sure if some layer writes it and another one reads it: then it is whole, and no row of several parts.

    Args:
        student: The student, a module.
        source: The source.
        rule: How entries are chosen; not by scores.
        rows: Rows matched by content, by the tensor's name.
    """

    def __init__(self, student: Side, source: Side, rule: Rule, rows: Mapping[str, Tensor]) -> None:
        self.student, self.source, self.rule, self.rows = student, source, rule, rows
        shared = [name for name in student.names if name in source.names]
        self.written = {pair for name in shared for pair in self._pairs(name, "writes")}
        self.read = {pair for name in shared for pair in self._pairs(name, "reads")}
        self.picks: dict[tuple[int, int], Pick] = {}

    def takes(self) -> list[Take]:
        """One for each tensor; a tied one comes once, by the first name that the source has."""
        return [
            self._take(next((name for name in names if name in self.source.names), names[0]))
            for names in once(self.student)
        ]

    def _use(self, name: str) -> _Use | None:
        """None: it is not known what the tensor's dimensions are."""
        owner, dims = self.student.owner(name), len(self.student.shape(name))
        if dims == 1:
            return _Use()
        if type(owner).__name__ == "Conv1D" or isinstance(owner, nn.modules.conv._ConvTransposeNd):
            return _Use(1, 0) if getattr(owner, "groups", 1) == 1 else None
        if isinstance(owner, nn.Linear):
            return _Use(0, 1)
        if isinstance(owner, nn.modules.conv._ConvNd):
            depthwise = owner.groups == owner.in_channels == owner.out_channels
            return _Use(0, 1) if owner.groups == 1 else _Use() if depthwise else None
        return _Use(1) if isinstance(owner, nn.Embedding) else None

    def _pairs(self, name: str, what: str) -> list[tuple[int, int]]:
        use, shape, of = self._use(name), self.student.shape(name), self.source.shape(name)
        dim = None if use is None else getattr(use, what)
        if dim is None or len(shape) != len(of) or len(shape) < 2:
            return []
        return [(of[dim], shape[dim])] if of[dim] != shape[dim] else []

    def _take(self, name: str) -> Take:
        if name not in self.source.names:
            return Take(name, reason="the source has no such tensor")
        if not self.student.is_weight(name):
            return Take(name, name)
        shape, of = self.student.shape(name), self.source.shape(name)
        actual = self.student.names[name]
        if len(shape) != len(of):
            return Take(name, reason=f"{len(shape)} dimensions here, {len(of)} in the source")
        reason = "" if actual in self.rows else self._doubt(name, shape, of)
        if reason:
            return Take(name, reason=reason)
        picks = [self._pick(old, new) for old, new in zip(of, shape, strict=True)]
        if actual in self.rows:
            picks[0] = matched(actual, self.rows[actual], shape[0], of[0])
        use = self._use(name)
        reads = None if use is None else use.reads
        return Take(name, name, tuple(picks), tuple(dim == reads for dim in range(len(shape))))

    def _doubt(self, name: str, shape: tuple[int, ...], of: tuple[int, ...]) -> str:
        """Why one cannot be sure of a tensor; empty: one can."""
        heads = self._heads_differ(name)
        if heads:
            return heads
        changed = [dim for dim in range(len(shape)) if shape[dim] != of[dim]]
        if not changed:
            return ""
        use = self._use(name)
        if use is None or any(dim not in (use.writes, use.reads) for dim in changed):
            return "it is not known what its dimensions are, and they differ from the source's"
        if self._in_attention(name):
            return "cutting or growing it might cut through attention heads, which are not known of this architecture"
        for dim in changed:
            pair = (of[dim], shape[dim])
            if pair not in self.written or pair not in self.read:
                side = "reads" if pair in self.written else "writes"
                return f"{pair[0]} in the source, {pair[1]} here, and no layer {side} such an axis: it may have parts"
        return ""

    def _in_attention(self, name: str) -> bool:
        return any(hasattr(module, attribute) for module in _around(self.student, name) for attribute in _HEADS)

    def _heads_differ(self, name: str) -> str:
        """Attention of equal shapes cut into other heads: its channels mean something else."""
        if self.source.module is None or name not in self.source.names:
            return ""
        for here, there in zip(_around(self.student, name), _around(self.source, name), strict=True):
            for attribute in _HEADS:
                new, old = getattr(here, attribute, None), getattr(there, attribute, None)
                if isinstance(new, int) and isinstance(old, int) and new != old:
                    return f"{attribute} is {old} in the source, {new} here: it would be cut through attention heads"
        return ""

    def _pick(self, source: int, student: int) -> Pick:
        if source == student:
            return whole(source)
        if (source, student) not in self.picks:
            self.rule.check(f"an axis of {student}", source, student)
            self.picks[source, student] = choose(source, student, first=self.rule.first)
        return self.picks[source, student]

    def chosen(self) -> dict[str, tuple[int, ...]]:
        """The entries of every axis that changes, by its sizes."""
        return {f"{source} to {student}": tuple(pick.index.tolist()) for (source, student), pick in self.picks.items()}

    def ways(self) -> tuple[str, ...]:
        """As `Inherited.ways`; tensors that only the source has are left out of it."""
        shared = [name for name in self.student.names if name in self.source.names]
        shapes = [(self.source.shape(name), self.student.shape(name)) for name in shared]
        pairs = [pair for old, new in shapes if len(old) == len(new) for pair in zip(old, new, strict=True)]
        more = any(name not in self.student.names for name in self.source.names)
        return ways_of(more or any(old > new for old, new in pairs), any(old < new for old, new in pairs))

    def notes(self) -> tuple[str, ...]:
        """Norms that see other means than the source's, and tensors that are one in the student alone."""
        found = [self._norm(name) for name in self.student.names] + [
            self._joined(names) for names in once(self.student)
        ]
        return tuple(dict.fromkeys(note for note in found if note))

    def _sizes(self, name: str) -> list[tuple[int, int]]:
        return list(zip(self.source.shape(name), self.student.shape(name), strict=False))

    def _norm(self, name: str) -> str:
        norm = self.student.owner(name)
        if not isinstance(norm, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm) or name not in self.source.names:
            return ""
        old, new = self.source.shape(name)[-1], self.student.shape(name)[-1]
        if (old, new) not in self.picks or new < old:
            return ""
        if new % old:
            return f"{new} is no whole multiple of {old}, so that norms see other means: outputs are not preserved"
        other = self.source.owner(name)
        groups = (getattr(other, "num_groups", 1), getattr(norm, "num_groups", 1))
        if groups != (1, 1) and (other is None or groups[0] * new != groups[1] * old):
            return f"{new} channels out of {old} fall into other groups of GroupNorm: outputs are not preserved"
        return ""

    def _joined(self, names: list[str]) -> str:
        there = [name for name in names if name in self.source.names]
        uses = {self._use(name) for name in there}
        if len(uses) > 1 and any(pair in self.picks and pair[0] < pair[1] for pair in self._sizes(there[0])):
            told = " and ".join(there)
            return f"{told} are one tensor, read at one place and written at the other: outputs are not preserved"
        tensors = {id(self.source.tensors[self.source.names[name]]) for name in there} if self.source.module else set()
        if len(tensors) < 2:
            return ""
        return f"{' and '.join(there)} are one tensor in the student and several in the source: {there[0]} is taken"


def _around(side: Side, name: str) -> list[nn.Module]:
    """The module that has a tensor, and the one around it."""
    assert side.module is not None
    owner = side.names[name].rpartition(".")[0]
    return [side.module.get_submodule(place) for place in (owner, owner.rpartition(".")[0])]
