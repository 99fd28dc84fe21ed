"""Attention in models of no known family: whatever its heads are called, it is not cut through them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init import init_from
from headstart.init.picking.attention import Attention
from headstart.init.side import Side
from tests.init.models import IDS, assert_same_outputs, stirred

HEADS = "cutting or growing it might cut through attention heads"


class VitPytorch(nn.Module):
    """Attention as vit-pytorch has it: its last layer lies in a Sequential."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.to_qkv = heads, nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(x).chunk(3, dim=-1))
        result: Tensor = self.to_out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return result


class Annotated(nn.Module):
    """Attention as the Annotated Transformer has it: its layers lie in a list."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.h, self.d_k = heads, width // heads
        self.linears = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.h, -1)).transpose(1, 2) for layer in self.linears[:3])
        result: Tensor = self.linears[3](nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    def __init__(self, kind: type[Any], width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads  # only handed on, as Swin's blocks do
        self.read, self.mixer = nn.Linear(6, width), kind(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.mlp(self.mixer(self.read(x)))
        return result


@pytest.mark.parametrize("kind", [VitPytorch, Annotated])
@pytest.mark.parametrize(("old", "new"), [((16, 4), (32, 4)), ((16, 4), (16, 2)), ((32, 4), (16, 2))])
def test_attention_stays_fresh_where_heads_cannot_be_kept(
    kind: type[Any], old: tuple[int, int], new: tuple[int, int]
) -> None:
    inherited = init_from(Block(kind, *new), Block(kind, *old))
    fresh = {row.name: row.reason for row in inherited.tensors if row.what == "fresh"}
    assert set(fresh) == {row.name for row in inherited.tensors if row.name.startswith("mixer.")}
    told = f"heads is {old[1]} in the source, {new[1]}" if kind is VitPytorch else f"h is {old[1]} in the source"
    assert all(reason.startswith(HEADS if old[1] == new[1] else told) for reason in fresh.values())


@pytest.mark.parametrize("kind", [VitPytorch, Annotated])
def test_attention_of_the_same_heads_is_copied(kind: type[Any]) -> None:
    source, student = stirred(Block(kind, 16, 4)), Block(kind, 16, 4)
    assert init_from(student, source).share == 1
    assert_same_outputs(student, source, torch.randn(2, 5, 6))


class Configured(VitPytorch):
    """What it goes by lies in a configuration alone."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        del self.heads
        self.cfg = SimpleNamespace(n_heads=heads)


@pytest.mark.parametrize(("old", "new"), [((16, 4), (32, 4)), ((16, 4), (16, 2))])
def test_heads_that_only_a_configuration_tells(old: tuple[int, int], new: tuple[int, int]) -> None:
    student, source = (
        nn.ModuleDict({"read": nn.Linear(6, width), "attn": Configured(width, heads), "out": nn.Linear(width, 3)})
        for width, heads in (new, old)
    )
    fresh = {row.name: row.reason for row in init_from(student, source).tensors if row.what == "fresh"}
    assert set(fresh) == {name for name in student.state_dict() if name.startswith("attn.")}
    told = HEADS if old[1] == new[1] else "n_heads is 4 in the source, 2 here"
    assert all(reason.startswith(told) for reason in fresh.values())


def test_heads_that_are_computed_are_told_too() -> None:
    class Computed(VitPytorch):
        @property
        def n_head(self) -> int:
            return 2 * self.heads

    assert Attention(Side(Computed(16, 4), None, "student")).told == {"": {"heads": 4, "n_head": 8}}


def test_what_is_a_height_is_no_number_of_heads() -> None:
    net = nn.Linear(2, 2)
    net.h, net.w = 4, 4  # type: ignore[assignment]
    assert not Attention(Side(net, None, "student")).told


def electra(width: int = 16, heads: int = 4, *, names: tuple[str, ...] = (), **more: Any) -> nn.Module:
    sizes: dict[str, Any] = {"embedding_size": width, "hidden_size": width, "num_attention_heads": heads}
    named: dict[str, Any] = {"id2label": dict(enumerate(names))} if names else {}
    config = transformers.ElectraConfig(
        vocab_size=50, num_hidden_layers=2, intermediate_size=24, **sizes, **named, **more
    )
    model: nn.Module = transformers.ElectraForSequenceClassification(config).eval()
    return model


@pytest.mark.parametrize("heads", [4, 8])
def test_the_last_layer_of_attention_that_lies_beside_it(heads: int) -> None:
    inherited = init_from(electra(32, heads), electra())
    fresh = {row.name for row in inherited.tensors if row.what == "fresh" and ".attention." in row.name}
    attention = {row.name for row in inherited.tensors if ".attention." in row.name and "LayerNorm" not in row.name}
    assert fresh == attention and any(name.endswith("attention.output.dense.weight") for name in fresh)


def test_configurations_of_files_are_heeded() -> None:
    """An Electra in a folder is a mapping of tensors and a configuration."""
    source, student = electra(heads=2, hidden_act="relu"), electra()
    inherited = init_from(student, dict(source.state_dict()), source_config=source.config)
    fresh = {row.name: row.reason for row in inherited.tensors if row.what == "fresh"}
    assert all(reason.startswith("num_attention_heads is 2 in the source, 4 here") for reason in fresh.values())
    assert {name.split(".attention.")[1] for name in fresh} > {"output.dense.weight", "self.query.weight"}
    (note,) = inherited.notes
    assert note == (
        "the configurations differ: hidden_act (relu in the source, gelu in the student), num_attention_heads (2 in "
        "the source, 4 in the student): outputs may not be preserved"
    )
    assert init_from(student, source).notes == (note,)


def test_tensors_alone_do_not_tell_heads() -> None:
    source, student = electra(), electra()
    (note,) = init_from(student, dict(source.state_dict())).notes
    assert note.startswith("how many attention heads the source has is not in its tensors") and "source_config" in note
    assert init_from(student, dict(source.state_dict()), source_config=source.config).notes == ()
    model = Block(VitPytorch, 16, 4)
    (note,) = init_from(model, dict(model.state_dict()), source_config={"num_layers": 1}).notes
    assert note.startswith("how many attention heads")
    assert init_from(model, dict(model.state_dict()), source_config={"heads": 4}).notes == ()


def test_classes_in_another_order_are_refused_until_they_are_matched() -> None:
    source, student = stirred(electra(names=("cat", "dog"))), electra(names=("dog", "cat"))
    with pytest.raises(InitError, match=r"classes: cat, dog\.\.\. in the source, dog, cat\.\.\. in the student"):
        init_from(student, source)
    rows = torch.tensor([1, 0])
    assert init_from(student, source, rows={"classes": rows}).share == 1
    for part in ("weight", "bias"):
        mine, theirs = (model.get_parameter(f"classifier.out_proj.{part}") for model in (student, source))
        assert torch.equal(mine, theirs[rows])
    with torch.no_grad():
        assert torch.allclose(student(IDS).logits, source(IDS).logits[:, rows], atol=1e-5)


def test_classes_are_never_cut_like_units() -> None:
    source, student = electra(16, names=tuple("abcdefghijklmnop")), electra(32, names=tuple(map(str, range(32))))
    rows = {row.name: row.reason for row in init_from(student, source).tensors if row.what == "fresh"}
    assert rows["classifier.out_proj.weight"].startswith("classes: 32 here, 16 in the source")
