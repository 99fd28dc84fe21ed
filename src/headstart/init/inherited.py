"""What a student took over from its source."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class InheritedTensor:
    """What became of one tensor of the student.

    Args:
        name: In the student; one that stands under several names has its first.
        sources: Names of the source's tensors that it comes from; none: it is fresh.
        what: "copied", "selected", "tiled", "matched" (rows by content), "resampled" (positions of
            another grid), several with "and" between them, "zeroed" (of
            a block that starts as the identity), or "fresh".
        shape: Its own.
        source_shape: That of the source's tensor; None: there is none.
        reason: Why it is fresh, or in part.
    """

    name: str
    sources: tuple[str, ...]
    what: str
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Inherited:
    """What a student took over from its source, as `init_from` gives it.

    Args:
        tensors: One for each tensor of the student.
        share: The share of the student's parameters that come from the source, 0 to 1.
        indices: For each axis and stack of layers the source's entries that the student's come from; an axis that
            differs from layer to layer has one for each, as "inner[3]".
        notes: What else there is to know: where outputs are not preserved, say.
        ways: "copy" where the source has the student's shape; else "select", "grow", or both, in depth or width.

    Example:
        >>> from torch import nn
        >>> from headstart.init import init_from
        >>> print(init_from(nn.Linear(2, 3), nn.Linear(2, 3)).table())
        tensor  from    what    shape   of
        weight  weight  copied  3 x 2   3 x 2
        bias    bias    copied  3       3
        100.0 % of the parameters inherited: 2 copied
    """

    tensors: tuple[InheritedTensor, ...]
    share: float
    indices: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()

    def table(self) -> str:
        """A line for each tensor, then the share and the notes, as plain text."""
        rows = [("tensor", "from", "what", "shape", "of")]
        rows += [
            (row.name, ", ".join(row.sources) or "-", _what(row), _by(row.shape), _by(row.source_shape))
            for row in self.tensors
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        counts = ", ".join(f"{count} {what}" for what, count in Counter(row.what for row in self.tensors).items())
        return "\n".join(
            [*lines, f"{self.share:.1%} of the parameters inherited: {counts}".replace("%", " %"), *self.notes]
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it in lists, mappings, strings and numbers, for JSON."""
        return {
            "share": self.share,
            "tensors": [
                {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(row).items()}
                for row in self.tensors
            ],
            "indices": {name: list(index) for name, index in self.indices.items()},
            "notes": list(self.notes),
            "ways": list(self.ways),
        }


def _what(row: InheritedTensor) -> str:
    return f"{row.what}: {row.reason}" if row.reason else row.what


def _by(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else " x ".join(map(str, shape)) or "1"
