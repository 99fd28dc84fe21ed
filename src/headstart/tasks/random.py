"""Random numbers that follow from (seed, epoch, sample) alone."""

from __future__ import annotations

import hashlib
import struct

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio as a signed 64-bit number; splitmix64's increment
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def random_below(limit: int, samples: Tensor, *, seed: int, epoch: int, stream: int | Tensor) -> Tensor:
    """Uniform whole numbers in [0, limit), the same on every device.

    From splitmix64's mixing of bits (Steele, Lea and Flood 2014, doi 10.1145/2714064.2660195).

    Args:
        limit: Number of values, up to 2^31.
        samples: Indices of the samples in the training set, int64 of any shape, for example `[batch]`.
        seed: The run's seed.
        epoch: Counted from 0.
        stream: Tells apart the numbers that one sample needs in one epoch. A tensor of int64 is broadcast with
            `samples`: positions `[length]` and samples `[batch, 1]` give a number for each position of each sample.

    Returns:
        int64, of the shape of `samples`, broadcast with `stream`.

    Example:
        >>> a = random_below(5, torch.arange(4), seed=0, epoch=1, stream=0)
        >>> bool(((a >= 0) & (a < 5)).all())
        True
    """
    state = torch.full_like(samples, seed)
    for number in (epoch, samples, stream):
        state = _mix(state * _GOLDEN + number + 1)
    return _shift(state, 33) % limit


def _shift(value: Tensor, bits: int) -> Tensor:
    # torch shifts signed numbers arithmetically; splitmix64 wants zeros from the left.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _MIX_1
    value = (value ^ _shift(value, 27)) * _MIX_2
    return value ^ _shift(value, 31)


def seed_of(*numbers: int) -> int:
    """A generator's seed that follows from some numbers, and has nothing to do with that of any others.

    Args:
        numbers: For example the run's seed, an epoch and a sample, as signed 64-bit numbers.

    Returns:
        In [0, 2^63).

    Example:
        >>> seed_of(0, 1, 2) == seed_of(0, 1, 2) != seed_of(0, 2, 1)
        True
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
