"""How the target of one row is stored: full, top-k or sampled, always in the same number of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from headstart.cache.bits import bits_for, pack, packed_bytes, unpack
from headstart.distill.targets.source import Use, check_sparse
from headstart.distill.targets.sparse import Sampled, TopK, sampled_target, top_k_target
from headstart.errors import HeadstartError
from headstart.records import Record

Kind = Literal["full", "top-k", "sampled"]

FULL_UP_TO = 1000  # classes; beyond that targets are sampled unless said otherwise
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.bfloat16, torch.float16, torch.float32)}
_CHUNK = 256  # rows
_LOWEST = torch.finfo(torch.float16).min

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FullRows(Record):
    """All logits, in the dtype in which the teacher gave them."""

    kind: Literal["full"] = "full"
    classes: int
    dtype: Literal["bfloat16", "float16", "float32"]

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.classes * _DTYPES[self.dtype].itemsize

    def encode(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Logits `[rows, classes]` as `[rows, row_bytes]` of uint8; `uniforms`, `[rows]` in [0, 1), are for draws."""
        if logits.dtype != _DTYPES[self.dtype]:
            raise HeadstartError(f"the teacher gave {self.dtype} before and {logits.dtype} now; it must keep to one")
        return _as_bytes(logits)

    def decode(self, packed: Tensor) -> Tensor:
        """Undo `encode`."""
        return packed.view(_DTYPES[self.dtype])


class TopKRows(Record):
    """The k largest logits and the log-sum-exp of the others, relative to the largest of them, in float16."""

    kind: Literal["top-k"] = "top-k"
    classes: int
    k: int
    temperature: Positive

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self._index_bytes + 2 * (self.k + 1)

    @property
    def _index_bytes(self) -> int:
        return packed_bytes(self.k, bits_for(self.classes))

    def encode(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """As in `FullRows`, but most of the logits are lost."""
        return self.encode_target(top_k_target(logits, self.k, self.temperature))

    def encode_target(self, target: TopK) -> Tensor:
        """A target of k classes that is at hand already, as `[rows, row_bytes]` of uint8."""
        # Probabilities depend on differences alone, and those that matter are small: float16 is fine for them.
        relative = target.logits - target.logits.amax(-1, keepdim=True)
        values = relative.clamp(min=_LOWEST).half()
        return torch.cat([pack(target.indices, bits_for(self.classes)), _as_bytes(values)], dim=-1)

    def decode(self, packed: Tensor) -> TopK:
        """The targets of `[rows, row_bytes]` of uint8."""
        indices = unpack(packed[:, : self._index_bytes], bits_for(self.classes), self.k)
        values = packed[:, self._index_bytes :].clone(memory_format=torch.contiguous_format).view(torch.float16)
        return TopK(indices, values, self.temperature, self.classes)


class SampledRows(Record):
    """Classes drawn from the tempered probabilities, and the entropy of those in float16."""

    kind: Literal["sampled"] = "sampled"
    classes: int
    draws: int
    temperature: Positive

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return packed_bytes(self.draws, bits_for(self.classes)) + 2

    def encode(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """As in `FullRows`, but only draws are kept."""
        # In chunks: the draw works in float64, which takes room where classes are many.
        begins = range(0, len(logits), _CHUNK)
        return torch.cat([self._encode(logits[i : i + _CHUNK], uniforms[i : i + _CHUNK]) for i in begins])

    def _encode(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        target = sampled_target(logits, self.draws, self.temperature, uniforms)
        entropy = target.entropy.half().unsqueeze(-1)
        return torch.cat([pack(target.indices, bits_for(self.classes)), _as_bytes(entropy)], dim=-1)

    def decode(self, packed: Tensor) -> Sampled:
        """The targets of `[rows, row_bytes]` of uint8."""
        indices = unpack(packed[:, :-2], bits_for(self.classes), self.draws)
        entropy = packed[:, -2:].clone(memory_format=torch.contiguous_format).view(torch.float16).squeeze(-1)
        return Sampled(indices, entropy, self.temperature, self.classes)


RowFormat = Annotated[FullRows | TopKRows | SampledRows, Field(discriminator="kind")]


@dataclass(frozen=True)
class Keep:
    """What to keep of each target.

    Attributes:
        kind: `"full"` logits, `"top-k"` or `"sampled"`; None: full for up to 1000 classes, else sampled.
        count: k of top-k (default 10), or the number of draws (default 32; 12 to 64 are usual).

    Example:
        >>> Keep("sampled", 16).format(torch.zeros(1, 30522), temperature=4.0).row_bytes
        32
    """

    kind: Kind | None = None
    count: int | None = None

    def format(self, logits: Tensor, temperature: float) -> FullRows | TopKRows | SampledRows:
        """The format for a teacher that gives such logits.

        Args:
            logits: `[rows, classes]`.
            temperature: At which sparse targets are to be used.

        Raises:
            HeadstartError: The count or the dtype of the logits does not go with the kind.
        """
        classes = logits.shape[-1]
        kind = self.kind or ("full" if classes <= FULL_UP_TO else "sampled")
        if kind == "full":
            return self._full(classes, logits.dtype)
        count = self.count if self.count is not None else 10 if kind == "top-k" else 32
        if kind == "top-k":
            if not 1 <= count < classes:
                raise HeadstartError(f"count={count}: top-k targets keep from 1 to {classes - 1} of {classes} classes")
            return TopKRows(classes=classes, k=count, temperature=temperature)
        if count < 1:
            raise HeadstartError(f"count={count}: sampled targets are of at least 1 draw; 12 to 64 are usual")
        return SampledRows(classes=classes, draws=count, temperature=temperature)

    def _full(self, classes: int, dtype: torch.dtype) -> FullRows:
        if self.count is not None:
            raise HeadstartError(f"count={self.count} is for top-k and sampled targets; full ones hold all classes")
        name = str(dtype).removeprefix("torch.")
        if name not in _DTYPES:
            raise HeadstartError(f"logits of {name} cannot be cached; let the teacher give {' or '.join(_DTYPES)}")
        return FullRows.model_validate({"classes": classes, "dtype": name})


def check_rows(name: str, rows: FullRows | TopKRows | SampledRows, use: Use) -> None:
    """Refuse a use that targets in a format are not good for.

    Args:
        name: Of their source, for the message.
        rows: Their format.
        use: What is to be done with them.

    Raises:
        HeadstartError: They are not good for it.
    """
    if not isinstance(rows, FullRows):
        check_sparse(name, TopK if isinstance(rows, TopKRows) else Sampled, rows.temperature, use)


def _as_bytes(values: Tensor) -> Tensor:
    return values.detach().contiguous().view(torch.uint8)
