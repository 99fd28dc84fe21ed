"""DistillKit's compressed log-probabilities, as its sampler writes them beside `compression_config.yaml`.

A row is of the next token. Its classes are packed one after the other, most significant bit first, in as many bits as
the vocabulary needs. Its log-probabilities, in falling order, are bytes: the first `exact_k` as they are, the
coefficients of a curve through the others, and for each bin of what the curve leaves a scale and small whole numbers.
With `delta_encoding` each number is a difference from the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from headstart.errors import TeacherError

SETTINGS = "compression_config.yaml"

_Float = Literal["float16", "bfloat16", "float32", "float64"]


class _Bin(BaseModel):
    scale_dtype: _Float
    element_bits: int = Field(ge=1, le=32)
    num_elements: int = Field(ge=1)


class Compression(BaseModel):
    """How a folder's files are compressed, by the names of its settings file."""

    d: int = Field(ge=2)
    k: int = Field(ge=1)
    exact_k: int = Field(ge=0)
    exact_dtype: _Float = "float32"
    polynomial_terms: list[int | Literal["sqrt", "exp"]] | None = None
    term_dtype: _Float = "float32"
    residual_bins: list[_Bin]
    delta_encoding: bool = True
    normalize_t: bool = False

    def token_ids(self, packed: Tensor) -> Tensor:
        """The classes, `[rows, k]`, of bytes `[rows, bytes]`."""
        return _unpacked(packed, (self.d - 1).bit_length(), self.k)

    def logprobs(self, packed: Tensor) -> Tensor:
        """Theirs, of bytes `[rows, bytes]`, in float32 or float64.

        Raises:
            ValueError: There are more bytes, or fewer.
        """
        bytes_ = _Bytes(packed)
        exact = bytes_.floats(self.exact_dtype, self.exact_k)
        others = self._curve(bytes_)
        left = [_dequantised(bytes_, part) for part in self.residual_bins]
        if bytes_.left:
            raise ValueError(f"{bytes_.left} bytes a row too many for {SETTINGS}")
        place = 0
        for part in left:
            others[:, place : place + part.shape[1]] += part.to(others.dtype)
            place += part.shape[1]
        values = torch.cat([exact, others.to(exact.dtype)], -1)
        wide = torch.promote_types(values.dtype, torch.float32)
        return values.float().cumsum(-1).to(wide) if self.delta_encoding else values.to(wide)

    def _curve(self, bytes_: _Bytes) -> Tensor:
        count = self.k - self.exact_k
        if not self.polynomial_terms:
            return torch.zeros(bytes_.rows, count, dtype=torch.float32)
        coefficients = bytes_.floats(self.term_dtype, len(self.polynomial_terms))
        dtype = coefficients.dtype
        points = torch.linspace(0, 1, count, dtype=dtype) if self.normalize_t else torch.arange(count, dtype=dtype)
        terms = [
            points**term if isinstance(term, int) else getattr(torch, term)(points) for term in self.polynomial_terms
        ]
        curve = (torch.stack(terms, -1) * coefficients.unsqueeze(-2)).sum(-1)
        return curve.to(torch.promote_types(dtype, torch.float32))


def read_compression(folder: Path) -> Compression:
    """The settings in a folder.

    Raises:
        TeacherError: There are none, or none of this form.
    """
    path = folder / SETTINGS
    try:
        return Compression.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        raise TeacherError(
            f"{path}: is missing, and DistillKit's compressed files cannot be read without it; its sampler writes it "
            "beside them"
        ) from None
    except (ValidationError, yaml.YAMLError) as error:
        raise TeacherError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def following_of(record: Mapping[str, Any], settings: Compression) -> list[tuple[list[int], list[float]]]:
    """What a record tells of each place but the last: classes and their log-probabilities.

    Raises:
        ValueError: The bytes are not as the settings say.
    """
    ids, values = (
        torch.tensor(record[name], dtype=torch.uint8) for name in ("bytepacked_indices", "compressed_logprobs")
    )
    return [*zip(settings.token_ids(ids).tolist(), settings.logprobs(values).tolist(), strict=True)]


class _Bytes:
    """Rows of bytes, read from their beginning on."""

    def __init__(self, packed: Tensor) -> None:
        self._packed = packed
        self.rows = len(packed)

    @property
    def left(self) -> int:
        return self._packed.shape[1]

    def take(self, count: int) -> Tensor:
        if count > self.left:
            raise ValueError(f"{count - self.left} bytes a row too few for {SETTINGS}")
        taken, self._packed = self._packed[:, :count], self._packed[:, count:]
        return taken.contiguous()

    def floats(self, kind: _Float, count: int) -> Tensor:
        dtype: torch.dtype = getattr(torch, kind)
        return self.take(count * dtype.itemsize).view(dtype) if count else torch.zeros(self.rows, 0, dtype=dtype)


def _dequantised(bytes_: _Bytes, part: _Bin) -> Tensor:
    scale = bytes_.floats(part.scale_dtype, 1)
    bits, count = part.element_bits, part.num_elements
    numbers = _unpacked(bytes_.take((bits * count + 7) // 8), bits, count)
    numbers = 2 * numbers - 1 if bits == 1 else numbers - 2 ** (bits - 1)
    return numbers.float() * scale


def _unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """Whole numbers of so many bits each, most significant first, `[rows, count]`."""
    if packed.shape[1] != (bits * count + 7) // 8:
        raise ValueError(
            f"{packed.shape[1]} bytes a row, and {count} numbers of {bits} bits take {(bits * count + 7) // 8}"
        )
    each = (packed.unsqueeze(-1) >> torch.arange(7, -1, -1)) & 1
    each = each.flatten(1)[:, : bits * count].view(len(packed), count, bits).long()
    return (each << torch.arange(bits - 1, -1, -1)).sum(-1)
