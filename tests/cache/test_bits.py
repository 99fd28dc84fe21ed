"""Packing numbers into bits, against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headstart.cache.bits import bits_for, pack, packed_bytes, unpack


@pytest.mark.parametrize("bits", range(1, 33))
@pytest.mark.parametrize("count", [1, 7, 10, 32])
def test_packs_and_unpacks(bits: int, count: int) -> None:
    generator = torch.Generator().manual_seed(bits * 100 + count)
    values = torch.randint(2**bits, (5, count), generator=generator)
    values[0], values[1] = 0, 2**bits - 1
    packed = pack(values, bits)
    assert packed.shape == (5, packed_bytes(count, bits))
    assert torch.equal(unpack(packed, bits, count), values)


@pytest.mark.parametrize("bits", [1, 10, 15, 17])
def test_bits_lie_as_numpy_packs_them(bits: int) -> None:
    values = torch.randint(2**bits, (3, 11), generator=torch.Generator().manual_seed(0))
    digits = (values.numpy()[:, :, None] >> np.arange(bits)) & 1
    expected = np.packbits(digits.reshape(3, -1).astype(np.uint8), axis=-1, bitorder="little")
    assert np.array_equal(pack(values, bits).numpy(), expected)


def test_no_rows() -> None:
    assert unpack(pack(torch.zeros(0, 4, dtype=torch.int64), 9), 9, 4).shape == (0, 4)


@pytest.mark.parametrize("values", [2, 3, 255, 256, 257, 65536, 65537])
def test_bits_for_tell_all_values_apart(values: int) -> None:
    assert 2 ** (bits_for(values) - 1) < values <= 2 ** bits_for(values)
