"""Bytes of tensors, and of the process."""

from __future__ import annotations

import sys
from mmap import mmap

import pytest
import torch
from torch import nn

from headstart.train.costs.memory import (
    forget_highest,
    highest_resident_bytes,
    module_bytes,
    optimizer_bytes,
    resident_bytes,
)


def test_a_module_is_its_parameters_and_buffers() -> None:
    assert module_bytes(nn.BatchNorm1d(4)) == 4 * 4 * 4 + 8  # weight, bias, mean, variance, and the count


@pytest.mark.parametrize(("name", "copies"), [("SGD", 1), ("AdamW", 2)])
def test_what_an_optimiser_keeps(name: str, copies: int) -> None:
    model = nn.Linear(100, 50, bias=False)
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)
    assert optimizer_bytes(optimizer) == 0
    model(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    assert optimizer_bytes(optimizer) - copies * 100 * 50 * 4 in (0, 4)  # AdamW counts its steps in a tensor


def touch(size: int) -> None:
    """Occupy so many bytes for a moment, in pages of their own: what the C library keeps may be there already."""
    written = b"x" * 2**20
    with mmap(-1, size) as pages:
        for _ in range(size // len(written)):
            pages.write(written)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: nothing else tells")
def test_a_peak_is_seen_once_the_one_before_is_forgotten() -> None:
    size = 64 * 2**20
    touch(2 * size)
    assert forget_highest()
    before = resident_bytes()
    touch(size)
    peak = highest_resident_bytes()
    assert before is not None and peak is not None
    assert 0.9 * size < peak - before < 1.5 * size
