"""Transformers cut and grown: exact where exact is possible."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from headstart.init import init_from
from tests.init.models import GROUPED, LANGUAGE, ROTARY, assert_same_outputs, assert_same_weights, language, stirred

TIED = [("bert", {}), ("roberta", {}), ("modernbert", {})] + [
    (kind, {"tie_word_embeddings": tied}) for kind in GROUPED for tied in (True, False)
]
EACH = pytest.mark.parametrize(("kind", "more"), TIED, ids=lambda value: str(value).strip("{}") or "default")


@EACH
def test_a_source_of_the_same_shape_gives_the_same_student(kind: str, more: dict[str, Any]) -> None:
    student, source = language(kind, **more), stirred(language(kind, **more))
    inherited = init_from(student, source, "copy")
    assert_same_weights(student, source)
    assert inherited.share == 1 and {row.what for row in inherited.tensors} == {"copied"}


@EACH
def test_twice_the_width_and_heads_keep_the_outputs(kind: str, more: dict[str, Any]) -> None:
    student, source = language(kind, 64, heads=8, inner=80, **more), stirred(language(kind, **more))
    assert init_from(student, source, "grow").share == 1
    assert_same_outputs(student, source)


@EACH
def test_larger_heads_keep_the_outputs(kind: str, more: dict[str, Any]) -> None:
    student, source = language(kind, 64, heads=4, **more), stirred(language(kind, **more))
    assert init_from(student, source, "grow").notes == ()
    assert_same_outputs(student, source)


@pytest.mark.parametrize("kind", GROUPED)
@pytest.mark.parametrize(("heads", "groups"), [(8, 2), (8, 4), (4, 4), (16, 2)])
def test_more_heads_in_and_out_of_groups_keep_the_outputs(kind: str, heads: int, groups: int) -> None:
    source = stirred(language(kind))
    student = language(kind, heads=heads, num_key_value_heads=groups, head_dim=8)
    init_from(student, source, "grow")
    assert_same_outputs(student, source)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_heads_and_units_that_give_nothing_can_be_cut(kind: str) -> None:
    """All but the kept heads and units are silenced in the source: the cut student gives the same."""
    source = stirred(language(kind, inner=48))
    sizes = {"head_dim": 8} if kind in GROUPED else {}
    student = language(kind, inner=32, heads=2 if sizes else 4, **sizes)
    indices = init_from(student, source, "select").indices
    silenced(source, indices)
    init_from(student, source, "select")
    assert_same_outputs(student, source)


def silenced(model: nn.Module, indices: dict[str, tuple[int, ...]]) -> None:
    """Make the outputs of all other heads and hidden units count for nothing."""
    ends = {
        "inner": ("mlp.Wo", "mlp.down_proj", "output.dense"),
        "attended": ("attn.Wo", "o_proj", "attention.output.dense"),
    }
    attended = [head * 8 + channel for head in indices["heads"] for channel in range(8)]
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name.endswith(ends["attended"]):
                keep(module.weight, attended)
            elif isinstance(module, nn.Linear) and name.endswith(ends["inner"]):
                keep(module.weight, list(indices["inner"]))


def keep(weight: torch.Tensor, columns: list[int]) -> None:
    mask = torch.zeros(weight.shape[1])
    mask[columns] = 1
    weight.mul_(mask)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_narrower_and_shallower_takes_all_from_the_source(kind: str) -> None:
    source, student = stirred(language(kind, layers=4)), language(kind, 16, 2, 2, 24)
    inherited = init_from(student, source)
    assert inherited.share == 1
    assert inherited.indices["hidden"] == tuple(range(0, 32, 2))
    assert inherited.indices["heads"] == ((0, 1) if kind in GROUPED else (0, 2))
    assert inherited.indices["layers" if kind in ROTARY else "encoder.layer"] == (0, 2 if kind == "modernbert" else 3)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_narrower_but_deeper_is_cut_and_stacked(kind: str) -> None:
    source, student = stirred(language(kind, layers=2)), language(kind, 16, 4, 2, 24)
    inherited = init_from(student, source)
    assert inherited.indices["layers" if kind in ROTARY else "encoder.layer"] == (0, 1, 0, 1)
    fresh = [row.name for row in inherited.tensors if row.what == "fresh"]
    assert fresh == (["model.layers.2.attn_norm.weight"] if kind == "modernbert" else [])
    assert "stacked: outputs are not preserved" in inherited.notes[0]
