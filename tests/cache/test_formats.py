"""How a row is stored: sizes, and what comes back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headstart.cache.formats import FullRows, Keep, SampledRows, TopKRows
from headstart.distill.targets.sparse import TopK, sampled_target, top_k_target
from headstart.errors import HeadstartError


def peaked(rows: int, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits of a confident teacher."""
    generator = torch.Generator().manual_seed(classes)
    logits = 2.0 * torch.randn(rows, classes, generator=generator)
    logits[torch.arange(rows), torch.randint(classes, (rows,), generator=generator)] += 12.0
    return logits.to(dtype)


def uniforms(rows: int) -> Tensor:
    return torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_full_rows_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    logits = peaked(6, 10, dtype)
    rows = Keep().format(logits, 1.0)
    assert isinstance(rows, FullRows) and rows.row_bytes == 10 * dtype.itemsize
    packed = rows.encode(logits, uniforms(6))
    assert packed.shape == (6, rows.row_bytes)
    assert torch.equal(rows.decode(packed), logits) and rows.decode(packed).dtype == dtype


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_top_k_keeps_probabilities(temperature: float) -> None:
    logits = peaked(200, 1000)
    rows = Keep("top-k", 10).format(logits, temperature)
    assert isinstance(rows, TopKRows)
    found, exact = rows.decode(rows.encode(logits, uniforms(200))), top_k_target(logits, 10, temperature)
    assert torch.equal(found.indices, exact.indices) and found.classes == 1000
    p, q = ((x.logits.float() / temperature).softmax(-1) for x in (exact, found))
    torch.testing.assert_close(q, p, rtol=5e-3, atol=1e-6)
    torch.testing.assert_close(q.sum(-1), torch.ones(200))


def test_top_k_does_not_mind_huge_logits() -> None:
    """float16 ends at 65504; differences are what is stored."""
    logits = torch.tensor([[1e6, 1e6 - 2.0, 0.0, -1e6]])
    rows = Keep("top-k", 2).format(logits, 1.0)
    found = rows.decode(rows.encode(logits, uniforms(1)))
    assert isinstance(found, TopK)
    torch.testing.assert_close(
        found.logits.float().softmax(-1), torch.tensor([[0.8808, 0.1192, 0.0]]), atol=1e-3, rtol=0
    )


def test_sampled_keeps_the_draws() -> None:
    logits = peaked(600, 5000)  # more rows than one chunk
    rows = Keep("sampled", 32).format(logits, 2.0)
    assert isinstance(rows, SampledRows)
    found, exact = rows.decode(rows.encode(logits, uniforms(600))), sampled_target(logits, 32, 2.0, uniforms(600))
    assert torch.equal(found.indices, exact.indices) and found.classes == 5000
    torch.testing.assert_close(found.entropy.double(), exact.entropy, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("keep", "classes", "size"),
    [
        (Keep(), 1000, 4000),
        (Keep(), 1001, 40 + 2),  # 32 draws of 10 bits: sampled beyond 1000 classes
        (Keep("top-k"), 1000, 13 + 22),  # 10 classes of 10 bits; 11 logits of 2 bytes
        (Keep("sampled"), 30522, 60 + 2),  # 32 draws of 15 bits; the entropy
        (Keep("sampled", 64), 30522, 120 + 2),
    ],
)
def test_rows_have_one_size(keep: Keep, classes: int, size: int) -> None:
    rows = keep.format(torch.zeros(1, classes), 1.0)
    assert rows.row_bytes == size
    assert rows.encode(peaked(3, classes), uniforms(3)).shape == (3, size)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Keep("full", 10), "count=10 is for top-k and sampled targets; full ones hold all classes"),
        (Keep("top-k", 7), "count=7: top-k targets keep from 1 to 6 of 7 classes"),
        (Keep("top-k", 0), "count=0"),
        (Keep("sampled", 0), "count=0: sampled targets are of at least 1 draw"),
    ],
)
def test_what_cannot_be_kept_is_refused(keep: Keep, message: str) -> None:
    with pytest.raises(HeadstartError, match=message):
        keep.format(torch.zeros(1, 7), 1.0)


def test_dtypes_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(HeadstartError, match="logits of float64 cannot be cached; let the teacher give bfloat16 or"):
        Keep().format(torch.zeros(1, 7, dtype=torch.float64), 1.0)
    with pytest.raises(HeadstartError, match=r"gave float32 before and torch.bfloat16 now"):
        Keep().format(torch.zeros(1, 7), 1.0).encode(torch.zeros(1, 7, dtype=torch.bfloat16), uniforms(1))
