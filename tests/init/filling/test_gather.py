"""Entries picked along dimensions, checked against torch's own indexing; how and when they are written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init import init_from
from headstart.init.filling import gather
from headstart.init.filling.fill import fill
from headstart.init.filling.gather import entries, picked
from headstart.init.picking.picks import Pick, spaced, tiled
from headstart.init.plan import Take
from tests.init.models import assert_same_weights, language, stirred

KEPT = {
    "all": torch.arange(12),
    "every second": torch.arange(1, 12, 2),
    "spaced": spaced(12, 7),
    "repeated": tiled(12, 30),
    "backwards": torch.tensor([5, 3, 1]),
    "one": torch.tensor([4]),
    "none": torch.tensor([], dtype=torch.int64),
}


def values(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "dim"), [((12,), 0), ((5, 12), 1), ((12, 5), 0), ((4, 12, 3), 1), ((2, 3, 12), 2)])
def test_picking_is_indexing(kept: str, dtype: torch.dtype, shape: tuple[int, ...], dim: int) -> None:
    source, index = values(shape, dtype), KEPT[kept]
    along = [entries(index if number == dim else torch.arange(size)) for number, size in enumerate(shape)]
    assert torch.equal(picked(source, along), source.index_select(dim, index))
    turned = source.transpose(0, -1).contiguous().transpose(0, -1)  # the same, lying otherwise in memory
    assert torch.equal(picked(turned, along), source.index_select(dim, index))


@pytest.mark.parametrize("block", [1, 7, 40, 10_000])
def test_parts_of_rows_make_up_the_whole(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that stay fresh, scales and shares of copies: all of it row by row as in one piece."""
    monkeypatch.setattr(gather, "_BLOCK", block)
    rows = torch.tensor([3, -1, 0, 2, -1])
    scale = torch.linspace(1, 2, 5, dtype=torch.float64)
    columns = Pick(tiled(6, 12), 6, "tiled")
    take = Take("w", "w", (Pick(rows, 4, "matched", scale), columns), (False, True))
    source, current = values((4, 6), torch.float32), torch.full((5, 12), 9.0)
    expected = source[rows.clamp(min=0)][:, columns.index] * scale[:, None].float() / 2
    expected[rows < 0] = 9.0
    out = torch.empty_like(current)
    assert fill(take, source, current, out)
    assert torch.allclose(out, expected)
    assert fill(take, source, current, current) and torch.equal(current, out)


def test_a_value_that_is_not_finite_is_seen_in_whatever_part_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_BLOCK", 4)
    take = Take("w", "w", (Pick(torch.arange(6), 6, "copied"),) * 2, (False, False))
    for place in range(6):
        source = torch.zeros(6, 6)
        source[place, 5 - place] = float("inf")
        assert not fill(take, source, torch.zeros(6, 6), torch.zeros(6, 6))


def test_written_one_by_one_is_the_same() -> None:
    source = stirred(language("llama", layers=2))
    together, each = language("llama", 16, 3, 2, 24), language("llama", 16, 3, 2, 24)
    each.load_state_dict(together.state_dict())
    assert init_from(together, source) == init_from(each, source, writing="each")
    assert_same_weights(together, each)


def test_what_would_be_done_is_told_without_doing_it() -> None:
    source, student = stirred(language("bert")), language("bert", 16, 2, 2, 24)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    told = init_from(student, source, writing="nothing")
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert init_from(student, source) == told and told.share == 1


def test_one_by_one_leaves_what_was_written_before_a_value_that_is_not_finite() -> None:
    source, student = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        source.get_parameter("1.weight").fill_(float("nan"))
    with pytest.raises(InitError, match=r"source: 1\.weight has values that are not finite"):
        init_from(student, source, writing="each")
    assert torch.equal(student.get_parameter("0.weight"), source.get_parameter("0.weight"))


def test_memory_that_lies_otherwise_is_written_in_its_own_order() -> None:
    source, student = nn.Linear(4, 6), nn.Linear(4, 6)
    student.weight = nn.Parameter(torch.empty(4, 6).t())
    init_from(student, source, writing="each")
    assert torch.equal(student.weight, source.weight)
