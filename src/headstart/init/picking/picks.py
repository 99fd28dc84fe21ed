"""Which entries of the source each entry of a student's axis comes from: the formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from headstart.errors import InitError


@dataclass(frozen=True)
class Pick:
    """Where the entries of one axis of the student come from.

    Args:
        index: For each of the student's entries the source's, `[student]`, int64; -1: stays as it is.
        size: Entries of the source's axis.
        what: "copied" (the same axis), "selected", "tiled" or "matched" (by content).
        scale: What each entry is multiplied by where a tensor writes to the axis, `[student]`, float64; None: nothing.
    """

    index: Tensor
    size: int
    what: str
    scale: Tensor | None = None

    @cached_property
    def in_place(self) -> bool:
        """Every entry of the source is taken once, at its own place."""
        return torch.equal(self.index, torch.arange(self.size, device=self.index.device))

    @property
    def same(self) -> bool:
        """The axis is taken as it is."""
        return self.scale is None and self.in_place

    @cached_property
    def fresh(self) -> int:
        """How many of the student's entries stay as they are."""
        return int((self.index < 0).sum())

    @cached_property
    def copies(self) -> Tensor:
        """How many entries come from the same entry of the source as each one, `[student]`, float64.

        A tensor that reads the axis is divided by them, so that the sum over copies is what one entry gave.
        """
        counts = torch.bincount(self.index.clamp(min=0), minlength=self.size)
        return counts[self.index.clamp(min=0)].double()


def whole(size: int) -> Pick:
    """The axis as it is."""
    return Pick(torch.arange(size), size, "copied")


def spaced(source: int, student: int) -> Tensor:
    """Evenly spaced entries (Xu et al. 2023, arXiv 2311.18823, as in the authors' code), `[student]`, int64.

    The same formula wherever an axis occurs: that makes a cut consistent.

    Example:
        >>> spaced(8, 4).tolist(), spaced(12, 5).tolist()
        ([0, 2, 4, 6], [0, 3, 6, 8, 11])
    """
    if student and source % student == 0:
        return torch.arange(student) * (source // student)
    return evenly(source, student)


@lru_cache(maxsize=256)
def evenly(source: int, student: int) -> Tensor:
    """Entries from the first to the last, `[student]`, int64: so DistilBERT took BERT's layers.

    Example:
        >>> evenly(12, 6).tolist()
        [0, 2, 4, 7, 9, 11]
    """
    return torch.linspace(0, source - 1, student, dtype=torch.float64).round().long()


def tiled(source: int, student: int) -> Tensor:
    """Entries repeated until the axis is full, `[student]`, int64.

    A whole multiple repeats the axis as a whole; at other widths the source lies in the middle, and what is beside it
    wraps round, as ModernBERT-large was started from base (arXiv 2412.13663).

    Example:
        >>> tiled(2, 4).tolist(), tiled(4, 6).tolist()
        ([0, 1, 0, 1], [3, 0, 1, 2, 3, 0])
    """
    before = 0 if student % source == 0 else (student - source) // 2
    return (torch.arange(student) - before) % source


def choose(source: int, student: int, *, first: bool = False, scores: Tensor | None = None) -> Pick:
    """Entries for an axis: all, some, or several times, as the sizes ask for.

    Args:
        source: Entries that there are.
        student: Entries wanted.
        first: Cut after the first ones, rather than evenly spaced.
        scores: What each entry is worth, `[source]`: the best ones are kept, in their order. None: by place.
    """
    if student == source:
        return whole(source)
    if student > source:
        return Pick(tiled(source, student), source, "tiled")
    if scores is not None:
        return Pick(scores.topk(student).indices.sort().values.cpu(), source, "selected")
    return Pick(torch.arange(student) if first else spaced(source, student), source, "selected")


def matched(name: str, rows: Tensor, student: int, source: int) -> Pick:
    """Rows matched by content.

    Args:
        name: Of the axis or tensor whose rows they are, for messages.
        rows: For each of the student's rows the source's, or -1: stays fresh. `[student]`, any integers.
        student: Rows of the student.
        source: Rows of the source.

    Raises:
        InitError: The rows are not such.
    """
    if rows.is_floating_point() or rows.shape != (student,):
        shape = " x ".join(map(str, rows.shape)) or "one value"
        raise InitError(
            f"rows[{name!r}]: one whole number for each of the student's {student} rows is needed, "
            f"not {shape} ({str(rows.dtype).removeprefix('torch.')})"
        )
    if student and (int(rows.min()) < -1 or int(rows.max()) >= source):
        wrong = int(rows.min()) if int(rows.min()) < -1 else int(rows.max())
        raise InitError(f"rows[{name!r}]: {wrong} is no row of the source, which has {source}; -1 leaves a row fresh")
    return Pick(rows.long().cpu(), source, "matched")


def kind(*picks: Pick) -> str:
    """In a word what happened along several axes."""
    kinds = [pick.what for pick in picks if pick.what != "copied"]
    return " and ".join(dict.fromkeys(kinds)) or "copied"


def times(outer: Pick, inner: Pick) -> Pick:
    """An axis made of two, such as heads and the channels of each."""
    index = outer.index[:, None] * inner.size + inner.index
    scale = None
    if outer.scale is not None or inner.scale is not None:
        scale = (_scale(outer)[:, None] * _scale(inner)).flatten()
    return Pick(index.flatten(), outer.size * inner.size, kind(outer, inner), scale)


def beside(picks: Sequence[Pick]) -> Pick:
    """An axis of several parts one after the other, such as fused queries, keys and values."""
    if len(picks) == 1:
        return picks[0]
    starts = torch.tensor([0, *(pick.size for pick in picks)]).cumsum(0)
    index = torch.cat([pick.index + start for pick, start in zip(picks, starts, strict=False)])
    scaled = any(pick.scale is not None for pick in picks)
    scale = torch.cat([_scale(pick) for pick in picks]) if scaled else None
    return Pick(index, int(starts[-1]), kind(*picks), scale)


def _scale(pick: Pick) -> Tensor:
    return torch.ones(len(pick.index), dtype=torch.float64) if pick.scale is None else pick.scale
