"""Models of no known family: by sizes alone, where one can be sure."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headstart.errors import InitError
from headstart.init import init_from
from tests.init.models import assert_same_outputs, assert_same_weights, of, stirred

INPUTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


def mlp(width: int = 8, inner: int = 12, classes: int = 3) -> nn.Sequential:
    layers = [nn.Linear(6, width), nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)]
    return nn.Sequential(*layers, nn.Linear(width, classes))


def convolutions(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 3, groups=channels),
        nn.Conv2d(channels, 2 * channels, 1),
        nn.Flatten(),
        nn.Linear(2 * channels * 4, 3),
    )


def test_a_source_of_the_same_shape_gives_the_same_student() -> None:
    student, source = convolutions(4), stirred(convolutions(4))
    assert init_from(student, source, "copy").share == 1
    assert_same_weights(student, source)


@settings(max_examples=15, deadline=None)
@given(times=st.integers(1, 3), inner=st.integers(12, 40))
def test_growth_keeps_the_outputs(times: int, inner: int) -> None:
    torch.manual_seed(0)
    student, source = mlp(8 * times, inner), stirred(mlp())
    assert init_from(student, source, "grow").share == 1
    assert_same_outputs(student, source, INPUTS)


@settings(max_examples=15, deadline=None)
@given(width=st.integers(2, 7), inner=st.integers(8, 11))
def test_a_cut_takes_the_same_entries_everywhere(width: int, inner: int) -> None:
    student, source = mlp(width, inner), mlp()
    indices = init_from(student, source, "select").indices
    kept, units = (list(indices[name]) for name in (f"8 to {width}", f"12 to {inner}"))
    assert torch.equal(of(student, "0.weight"), of(source, "0.weight")[kept])
    assert torch.equal(of(student, "1.weight"), of(source, "1.weight")[kept])
    assert torch.equal(of(student, "2.weight"), of(source, "2.weight")[units][:, kept])
    assert torch.equal(of(student, "4.weight"), of(source, "4.weight")[kept][:, units])
    assert torch.equal(of(student, "5.weight"), of(source, "5.weight")[:, kept])


def test_what_may_have_parts_is_named_and_stays_fresh() -> None:
    student, source = convolutions(4), stirred(convolutions(8))
    inherited = init_from(student, source)
    fresh = {row.name: row.reason for row in inherited.tensors if row.what == "fresh"}
    assert fresh["5.weight"] == "64 in the source, 32 here, and no layer writes such an axis: it may have parts"
    assert torch.equal(of(student, "0.weight"), of(source, "0.weight")[::2]) and torch.equal(
        of(student, "2.weight"), of(source, "2.weight")[::2]
    )
    assert set(fresh) == {"3.weight", "3.bias", "5.weight"}


def test_attention_heads_are_not_cut_through() -> None:
    student, source = (nn.TransformerEncoderLayer(width, 2, 24, batch_first=True) for width in (8, 16))
    inherited = init_from(student, source)
    fresh = {row.name for row in inherited.tensors if row.what == "fresh"}
    assert fresh == {name for name, _ in student.named_parameters() if name.startswith("self_attn")}
    assert torch.equal(of(student, "linear1.weight"), of(source, "linear1.weight")[:, ::2])


def test_nor_those_of_a_wrapped_student() -> None:
    student, source = (nn.TransformerEncoderLayer(width, 2, 24, batch_first=True) for width in (8, 16))
    inherited = init_from(nn.DataParallel(student), source)
    fresh = {row.name for row in inherited.tensors if row.what == "fresh"}
    assert fresh == {f"module.{name}" for name, _ in student.named_parameters() if name.startswith("self_attn")}


def test_classes_by_the_name_of_a_tensor() -> None:
    student, source = mlp(classes=2), stirred(mlp())
    rows = torch.tensor([2, -1])
    init_from(student, source, rows={"5.weight": rows, "5.bias": rows})
    assert torch.equal(of(student, "5.weight")[0], of(source, "5.weight")[2])
    assert torch.equal(of(student, "5.bias")[0], of(source, "5.bias")[2])


def test_scores_need_a_known_family() -> None:
    with pytest.raises(InitError, match="no family whose roles are known"):
        init_from(mlp(4), mlp(), scores="activation", batches=[INPUTS])


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(InitError, match="unrelated to the student, none of whose weights it fits"):
        init_from(mlp(), convolutions(4))


def test_a_transposed_layer_is_grown_on_its_own_dimensions() -> None:
    def net(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(1, width, 1), nn.ReLU(), nn.ConvTranspose2d(width, width, 2), nn.Conv2d(width, 1, 1)
        )

    student, source = net(9), stirred(net(4))
    init_from(student, source, "grow")
    assert_same_outputs(student, source, torch.randn(2, 1, 5, 5))
