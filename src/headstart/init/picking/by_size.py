"""Models of no known family: axes told by their sizes alone, where one can be sure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from headstart.init.configured import settings_differ
from headstart.init.picking.attention import Attention, heads_told
from headstart.init.picking.axes import Rule, ways_of
from headstart.init.picking.picks import Pick, choose, matched, whole
from headstart.init.picking.stacks import Stacks
from headstart.init.plan import Take, once
from headstart.init.side import Side

UNSEEN = (
    "axes are told by their sizes alone, which cannot show where layers concatenate or halve them (joined skips, gated "
    "units in one layer) or cut them into heads: compare the outputs before and after (growth by whole multiples keeps "
    "them where nothing is fresh; with batches that is checked), or look at the first loss with headstart doctor"
)


class _Use(NamedTuple):
    """What a layer does with the dimensions of its weight: one it writes, one it reads; the others stay."""

    writes: int = 0
    reads: int | None = None


class BySize:
    """What each tensor of a student takes from the tensor of the same name.

    All axes that are joined have the same two sizes, so that one formula for two sizes treats them alike. An axis that
    changes is taken if some layer writes it and another one reads it. It may still have parts, which no size shows.

    Args:
        student: The student, a module.
        source: The source.
        rule: How entries are chosen; not by scores.
        rows: Rows matched by content, by the tensor's name.
        classes: The student's tensors with a row a class, which is matched, never cut or tiled.

    Raises:
        InitError: A number of layers is not such as `rule` takes.
    """

    def __init__(
        self, student: Side, source: Side, rule: Rule, rows: Mapping[str, Tensor], classes: Collection[str] = ()
    ) -> None:
        self.student, self.source, self.rule, self.rows, self.classes = student, source, rule, rows, classes
        self.stacks = Stacks(student, source, rule)
        self.attention, self.other_attention = Attention(student), Attention(source)
        self.configured = tuple(heads_told(side.config) for side in (source, student))
        shared = [name for name in student.names if self._there(name)]
        self.written = {pair for name in shared for pair in self._pairs(name, "writes")}
        self.read = {pair for name in shared for pair in self._pairs(name, "reads")}
        self.picks: dict[tuple[int, int], Pick] = {}

    def takes(self) -> list[Take]:
        """One for each tensor; a tied one comes once, by the first name that the source has."""
        return [
            self._take(next((name for name in names if self._there(name)), names[0])) for names in once(self.student)
        ]

    @property
    def left_out(self) -> bool:
        """Channels or layers of the source are left out."""
        return any(old > new for old, new in (*self.picks, *self.stacks.depths))

    @property
    def unchanged(self) -> bool:
        """The source has the student's shape."""
        return not self.picks and not self.stacks.depths

    def exact(self, takes: list[Take]) -> bool:
        """The student gives the source's outputs, if axes are what sizes say: all is taken, in whole multiples."""
        weights = [take for take in takes if self.student.is_weight(take.name)]
        return (
            not self.stacks.depths
            and all(take.source is not None and not any(pick.fresh for pick in take.picks) for take in weights)
            and all(new % old == 0 for old, new in self.picks)
            and not any(pick.what == "matched" for take in weights for pick in take.picks)
        )

    def _origin(self, name: str) -> str:
        return self.stacks.origin(name)

    def _there(self, name: str) -> bool:
        return self._origin(name) in self.source.names

    def _shapes(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the student's tensor, and of the source's that it comes from."""
        return self.student.shape(name), self.source.shape(self._origin(name))

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
        use, (shape, of) = self._use(name), self._shapes(name)
        dim = None if use is None else getattr(use, what)
        if dim is None or len(shape) != len(of) or len(shape) < 2:
            return []
        return [(of[dim], shape[dim])] if of[dim] != shape[dim] else []

    def _take(self, name: str) -> Take:
        if not self._there(name):
            return Take(name, reason="the source has no such tensor")
        origin = self._origin(name)
        if not self.student.is_weight(name):
            return Take(name, origin)
        shape, of = self._shapes(name)
        actual = self.student.names[name]
        if len(shape) != len(of):
            return Take(name, reason=f"{len(shape)} dimensions here, {len(of)} in the source")
        reason = "" if actual in self.rows else self._doubt(name, shape, of)
        if reason:
            return Take(name, reason=reason)
        rows = [matched(actual, self.rows[actual], shape[0], of[0])] if actual in self.rows else []
        pairs = list(zip(of, shape, strict=True))[len(rows) :]
        picks = rows + [self._pick(old, new) for old, new in pairs]
        use = self._use(name)
        reads = None if use is None else use.reads
        return Take(name, origin, tuple(picks), tuple(dim == reads for dim in range(len(shape))))

    def _doubt(self, name: str, shape: tuple[int, ...], of: tuple[int, ...]) -> str:
        """Why one cannot be sure of a tensor; empty: one can."""
        heads = self._heads_differ(name)
        if heads:
            return heads
        if name in self.classes and shape[0] != of[0]:
            return f"classes: {shape[0]} here, {of[0]} in the source, and no rows were given to match them"
        changed = [dim for dim in range(len(shape)) if shape[dim] != of[dim]]
        if not changed:
            return ""
        use = self._use(name)
        if use is None or any(dim not in (use.writes, use.reads) for dim in changed):
            return "it is not known what its dimensions are, and they differ from the source's"
        if self.attention.around(name):
            return "cutting or growing it might cut through attention heads, which are not known of this architecture"
        for dim in changed:
            pair = (of[dim], shape[dim])
            if pair not in self.written or pair not in self.read:
                side = "reads" if pair in self.written else "writes"
                return f"{pair[0]} in the source, {pair[1]} here, and no layer {side} such an axis: it may have parts"
        return ""

    def _heads_differ(self, name: str) -> str:
        """Attention of equal shapes cut into other heads: its channels mean something else."""
        for place in self.attention.around(name):
            new, old = self.attention.told[place], self.other_attention.told.get(self._origin(place), {})
            if self.source.module is None:
                old, configured = self.configured
                new = configured or new
            for told in new:
                if told in old and new[told] != old[told]:
                    numbers = f"{told} is {old[told]} in the source, {new[told]} here"
                    return f"{numbers}: it would be cut through attention heads"
        return ""

    def _pick(self, source: int, student: int) -> Pick:
        if source == student:
            return whole(source)
        if (source, student) not in self.picks:
            self.rule.check(f"an axis of {student}", source, student)
            self.picks[source, student] = choose(source, student, first=self.rule.first)
        return self.picks[source, student]

    def chosen(self) -> dict[str, tuple[int, ...]]:
        """The entries of every axis that changes, by its sizes, and the layers of every stack that does."""
        found = {f"{source} to {student}": pick.index.tolist() for (source, student), pick in self.picks.items()}
        return {name: tuple(index) for name, index in (found | self.stacks.chosen).items()}

    def ways(self) -> tuple[str, ...]:
        """As `Inherited.ways`; tensors that only the source has are left out of it."""
        shapes = [self._shapes(name) for name in self.student.names if self._there(name)]
        pairs = [pair for new, old in shapes if len(old) == len(new) for pair in zip(old, new, strict=True)]
        pairs += self.stacks.depths
        more = any(name not in self.student.names for name in self.source.names)
        return ways_of(more or any(old > new for old, new in pairs), any(old < new for old, new in pairs))

    def notes(self) -> tuple[str, ...]:
        """What is known to be computed otherwise than in the source, or cannot be known."""
        found = [self._norm(name) for name in self.student.names]
        found += [self._joined(names) for names in once(self.student)]
        found += [*self.stacks.notes(), self._unknown_heads()]
        found += settings_differ(self.student, self.source, {*self.picks, *self.stacks.depths})
        return tuple(dict.fromkeys(note for note in found if note))

    def _unknown_heads(self) -> str:
        """Tensors alone do not tell their heads."""
        places = {place for name in self.student.names for place in self.attention.around(name)}
        told, configured = self.configured
        here = configured or {key for place in places for key in self.attention.told[place]}
        if self.source.module is not None or not places or set(told) & set(here):
            return ""
        return (
            "how many attention heads the source has is not in its tensors, and nothing else tells it: its attention "
            "is taken as one of the student's; give source_config, its configuration"
        )

    def _sizes(self, name: str) -> list[tuple[int, int]]:
        new, old = self._shapes(name)
        return list(zip(old, new, strict=False))

    def _norm(self, name: str) -> str:
        norm = self.student.owner(name)
        if not isinstance(norm, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm) or not self._there(name):
            return ""
        old, new = self._sizes(name)[-1]
        if (old, new) not in self.picks or new < old:
            return ""
        if new % old:
            return f"{new} is no whole multiple of {old}, so that norms see other means: outputs are not preserved"
        other = self.source.owner(self._origin(name))
        groups = (getattr(other, "num_groups", 1), getattr(norm, "num_groups", 1))
        if groups != (1, 1) and (other is None or groups[0] * new != groups[1] * old):
            return f"{new} channels out of {old} fall into other groups of GroupNorm: outputs are not preserved"
        return ""

    def _joined(self, names: list[str]) -> str:
        there = [name for name in names if self._there(name)]
        uses = {self._use(name) for name in there}
        if len(uses) > 1 and any(pair in self.picks and pair[0] < pair[1] for pair in self._sizes(there[0])):
            told = " and ".join(there)
            return f"{told} are one tensor, read at one place and written at the other: outputs are not preserved"
        origins = [self.source.names[self._origin(name)] for name in there] if self.source.module else []
        tensors = {id(self.source.tensors[origin]) for origin in origins}
        if len(tensors) < 2:
            return ""
        return f"{' and '.join(there)} are one tensor in the student and several in the source: {there[0]} is taken"
