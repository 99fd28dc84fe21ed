"""Whole numbers in as few bits as they need."""

from __future__ import annotations

import torch
from torch import Tensor


def bits_for(values: int) -> int:
    """Bits that tell so many values apart, at least 1.

    Example:
        >>> [bits_for(values) for values in (1, 2, 1000, 1024, 1025, 30522)]
        [1, 1, 10, 10, 11, 15]
    """
    return max(1, (values - 1).bit_length())


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of a row of packed numbers."""
    return (count * bits + 7) // 8


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack each row of numbers, lowest bits first.

    Args:
        values: `[rows, count]` of int64, from 0 to 2^bits - 1.
        bits: Of each number, up to 32.

    Returns:
        `[rows, packed_bytes(count, bits)]` of uint8.

    Example:
        >>> pack(torch.tensor([[1, 2, 3]]), bits=4)
        tensor([[33,   3]], dtype=torch.uint8)
    """
    rows, count = values.shape
    width = packed_bytes(count, bits)
    places = torch.arange(bits, device=values.device)
    digits = ((values.unsqueeze(-1) >> places) & 1).flatten(1)
    digits = torch.nn.functional.pad(digits, (0, 8 * width - digits.shape[1])).view(rows, width, 8)
    return (digits << torch.arange(8, device=values.device)).sum(-1).to(torch.uint8)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Undo `pack`.

    Args:
        packed: `[rows, packed_bytes(count, bits)]` of uint8.
        bits: Of each number.
        count: Numbers of a row.

    Returns:
        `[rows, count]` of int64.

    Example:
        >>> unpack(pack(torch.tensor([[5, 0, 7]]), bits=3), bits=3, count=3)
        tensor([[5, 0, 7]])
    """
    begins = torch.arange(count, device=packed.device) * bits
    values = torch.zeros(len(packed), count, dtype=torch.int64, device=packed.device)
    for byte in range((bits + 14) // 8):  # as many bytes as a number may reach into
        # Past a row's end the last byte is read again; it lands in bits that are masked off.
        column = (begins // 8 + byte).clamp(max=packed.shape[1] - 1)
        values |= packed[:, column].long() << (8 * byte)
    return (values >> (begins % 8)) & ((1 << bits) - 1)
