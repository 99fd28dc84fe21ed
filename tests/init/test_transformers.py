"""Transformers cut and grown: exact where exact is possible."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from headstart.init import init_from
from headstart.init.picking.axes import Axes, Rule
from headstart.init.roles import Axis
from headstart.init.side import Side
from headstart.init.view import View, views
from tests.init.models import (
    GROUPED,
    LANGUAGE,
    LAYERS,
    assert_same_outputs,
    assert_same_weights,
    language,
    outputs,
    stirred,
    without_channels,
)

TIED: list[tuple[str, dict[str, Any]]] = (
    [(kind, {}) for kind in LANGUAGE if kind not in GROUPED]
    + [("gpt2", {"tie_word_embeddings": False})]
    + [(kind, {"tie_word_embeddings": tied}) for kind in GROUPED for tied in (True, False)]
)
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


@pytest.mark.parametrize("kind", [*LANGUAGE, "vit"])
def test_channels_of_heads_that_are_zero_can_be_cut(kind: str) -> None:
    """Heads half the size, twice as many where the width tells their size: the surplus was zero."""
    source, student, inputs = halved(kind)
    indices = init_from(student, source).indices
    _, view = seen(student, source)
    without_channels(view, indices["rotated_channels"], indices["head_channels"])
    init_from(student, source)
    assert_same_outputs(student, source, inputs)


def halved(kind: str) -> tuple[nn.Module, nn.Module, torch.Tensor | None]:
    if kind == "vit":
        source, student = (vit(heads) for heads in (2, 4))
        return stirred(source), student, torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    sizes: dict[str, Any] = {"head_dim": 4} if kind in GROUPED else {"heads": 8}
    return stirred(language(kind)), language(kind, **sizes), None


def vit(heads: int) -> nn.Module:
    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 24, "num_attention_heads": heads}
    sizes |= {"image_size": 16, "patch_size": 4, "attn_implementation": "eager"}
    config = transformers.ViTConfig(**sizes)
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model.eval()


ENDS = {
    "inner": ("mlp.Wo", "mlp.down_proj", "output.dense", "ffn.lin2", "mlp.c_proj"),
    "attended": ("attn.Wo", "o_proj", "attention.output.dense", "out_lin", "attn.c_proj"),
}


def silenced(model: nn.Module, indices: dict[str, tuple[int, ...]]) -> None:
    """Make the outputs of all other heads and hidden units count for nothing."""
    attended = [head * 8 + channel for head in indices["heads"] for channel in range(8)]
    for name, module in model.named_modules():
        if name.endswith(ENDS["attended"]):
            keep(module, attended)
        elif name.endswith(ENDS["inner"]):
            keep(module, list(indices["inner"]))


def keep(module: nn.Module, inputs: list[int]) -> None:
    """Leave a layer only some of its inputs."""
    weight = module.get_parameter("weight")
    mask = torch.zeros(weight.shape[0 if type(module).__name__ == "Conv1D" else 1])
    mask[inputs] = 1
    with torch.no_grad():
        weight.mul_(mask[:, None] if type(module).__name__ == "Conv1D" else mask)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_narrower_and_shallower_takes_all_from_the_source(kind: str) -> None:
    source, student = stirred(language(kind, layers=4)), language(kind, 16, 2, 2, 24)
    inherited = init_from(student, source)
    assert inherited.share == 1
    assert inherited.indices["hidden"] == tuple(range(0, 32, 2))
    assert inherited.indices["heads"] == ((0, 1) if kind in GROUPED else (0, 2))
    assert inherited.indices[LAYERS.get(kind, "layers")] == (0, 2 if kind == "modernbert" else 3)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_narrower_but_deeper_is_cut_and_stacked(kind: str) -> None:
    source, student = stirred(language(kind, layers=2)), language(kind, 16, 4, 2, 24)
    inherited = init_from(student, source)
    # A ModernBERT's last layer looks at everything, as the first one does, which has no norm.
    alternating = kind == "modernbert"
    assert inherited.indices[LAYERS.get(kind, "layers")] == ((0, 1, 1, 0) if alternating else (0, 1, 0, 1))
    fresh = [row.name for row in inherited.tensors if row.what == "fresh"]
    assert fresh == (["model.layers.3.attn_norm.weight"] if alternating else [])
    assert "stacked: outputs are not preserved" in inherited.notes[0]


def kinds(model: nn.Module) -> list[str]:
    """As the library builds each layer."""
    layers: Any = model.get_submodule("model.layers")
    return ["window" if layer.attn.sliding_window else "all" for layer in layers]


@pytest.mark.parametrize(("layers", "more"), [(4, 8), (4, 7), (6, 12), (3, 10)])
def test_stacked_layers_come_from_layers_of_their_kind(layers: int, more: int) -> None:
    source, student = stirred(language("modernbert", layers=layers)), language("modernbert", layers=more)
    inherited = init_from(student, source)
    origins = inherited.indices["layers"]
    assert [kinds(source)[origin] for origin in origins] == kinds(student)
    assert origins[:layers] == tuple(range(layers)) and len(inherited.notes) == 1
    assert (inherited.share == 1 and 0 not in origins[1:]) is (layers > 3)  # of 3 the first alone looks at everything


def test_a_window_in_the_upper_layers_alone_stays_there() -> None:
    window = {"use_sliding_window": True, "sliding_window": 4}
    source = stirred(language("qwen3", layers=4, max_window_layers=2, **window))
    student = language("qwen3", layers=8, max_window_layers=4, **window)
    assert init_from(student, source).indices["layers"] == (0, 1, 0, 1, 2, 3, 2, 3)
    other = language("qwen3", layers=4, max_window_layers=3, **window)
    (note,) = init_from(other, source).notes
    assert note == "layers: full_attention in 2, sliding_attention where they come from: outputs are not preserved"
    assert not torch.allclose(outputs(other), outputs(source), rtol=1e-3, atol=1e-4)


def test_a_single_layer_is_taken_twice_and_its_kind_told() -> None:
    source, student = stirred(language("modernbert", layers=1)), language("modernbert", layers=2)
    inherited = init_from(student, source)
    assert inherited.indices["layers"] == (0, 0)
    assert "layers: sliding_attention in 1, full_attention where they come from: outputs are not preserved" in (
        inherited.notes
    )


@pytest.mark.parametrize("window", [4, None])
def test_a_window_over_all_layers_or_none_is_told(window: int | None) -> None:
    source = stirred(language("mistral", sliding_window=window))
    student = language("mistral", sliding_window=None if window else 4)
    (note,) = init_from(student, source).notes
    assert note.startswith("layers: full_attention in 0, 1, 2" if window else "layers: sliding_attention in 0, 1, 2")
    assert not torch.allclose(outputs(student), outputs(source), rtol=1e-3, atol=1e-4)


def seen(student: nn.Module, source: nn.Module) -> tuple[View, View]:
    found = views(Side(student, None, "student"), Side(source, None, "source"))
    assert found is not None
    return found


def permuted(view: View, axis: Axis, order: torch.Tensor) -> None:
    """Put the entries of an axis into another order, wherever the table says that it occurs."""
    moved: set[int] = set()
    for name, place in view.places.items():
        tensor = view.side.tensors[view.side.names[name]]
        for number, dim in enumerate(place.roles):
            if dim.axes == (axis,) and (id(tensor) not in moved):
                with torch.no_grad():
                    tensor.copy_(tensor.index_select(number, order))
        moved.add(id(tensor))


@EACH
def test_the_cut_of_a_permuted_source_is_the_permuted_selection(kind: str, more: dict[str, Any]) -> None:
    """And the source computes the same after it: the table names every place where the axis occurs."""
    source, student = stirred(language(kind, **more)), language(kind, 16, 3, 2, 24, **more)
    before, original = outputs(source), {name: value.clone() for name, value in source.state_dict().items()}
    order = torch.randperm(32)
    _, view = seen(student, source)
    square = [name for name, place in view.places.items() if [dim.axes for dim in place.roles].count((HIDDEN,)) == 2]
    permuted(view, HIDDEN, order)
    for name in square:  # both dimensions are the axis; the first one alone has been moved
        with torch.no_grad():
            tensor = view.side.tensors[view.side.names[name]]
            tensor.copy_(original[view.side.names[name]][order][:, order])
    assert torch.allclose(outputs(source), before, atol=1e-5 * float(before.abs().max()))
    init_from(student, source)
    mine, theirs = seen(student, source)
    axes = Axes(mine, theirs, Rule(), {})
    for name, place in mine.places.items():
        expected = original[theirs.side.names[name]]
        for number, dim in enumerate(place.roles):
            pick = axes.dim(dim, mine.side.shape(name)[number])
            assert pick is not None
            expected = expected.index_select(number, order[pick.index] if dim.axes == (HIDDEN,) else pick.index)
        assert torch.equal(mine.side.tensors[mine.side.names[name]], expected), name


HIDDEN = Axis("hidden")


def test_a_smaller_head_takes_the_pairs_whose_frequencies_it_computes() -> None:
    source = stirred(language("llama", 32, heads=2, head_dim=16, num_key_value_heads=2))
    student = language("llama", 32, heads=2, head_dim=8, num_key_value_heads=2)
    pairs = list(init_from(student, source).indices["rotated_channels"])
    theirs = source.get_submodule("model.rotary_emb").get_buffer("inv_freq")
    mine = student.get_submodule("model.rotary_emb").get_buffer("inv_freq")
    assert torch.allclose(theirs[pairs[:4]], mine) and pairs[4:] == [pair + 8 for pair in pairs[:4]]


def test_another_base_of_frequencies_moves_the_pairs() -> None:
    source = stirred(language("llama", 32, heads=1, head_dim=32, num_key_value_heads=1))
    rope = {"rope_type": "default", "rope_theta": 100.0}
    student = language("llama", 32, heads=1, head_dim=16, num_key_value_heads=1, rope_parameters=rope)
    pairs = list(init_from(student, source).indices["rotated_channels"])
    theirs = source.get_submodule("model.rotary_emb").get_buffer("inv_freq")
    mine = student.get_submodule("model.rotary_emb").get_buffer("inv_freq")
    assert torch.allclose(theirs[pairs[:8]], mine, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_a_wrapped_student_takes_the_same(kind: str) -> None:
    source, plain = stirred(language(kind)), language(kind)
    student = nn.ModuleDict({"inside": plain})
    assert init_from(student, source).share == 1
    assert_same_weights(plain, source)


def test_a_model_without_head_takes_the_body_of_one_with_a_head() -> None:
    source = stirred(language("bert"))
    student = source.__class__(source.config).get_submodule("bert")
    assert init_from(student, source).share == 1
    assert_same_weights(student, source.get_submodule("bert"))


def test_an_untied_head_comes_from_the_embedding_that_the_source_ties_it_to() -> None:
    source = stirred(language("llama", tie_word_embeddings=True))
    state = {name: value for name, value in source.state_dict().items() if name != "lm_head.weight"}
    student = language("llama", tie_word_embeddings=False)
    assert init_from(student, state, source_config=source.config).share == 1
    assert_same_outputs(student, source)
    row = next(row for row in init_from(student, state, source_config=source.config).tensors if "lm_head" in row.name)
    assert row.sources == ("model.embed_tokens.weight",)


def test_a_tied_student_says_that_the_source_has_a_head_of_its_own() -> None:
    source = stirred(language("llama", tie_word_embeddings=False))
    notes = init_from(language("llama", tie_word_embeddings=True), source).notes
    assert notes == (
        "the student's head is its embedding, the source's is not: the source's own (lm_head.weight) is not used",
    )


def test_a_vocabulary_is_matched_by_rows() -> None:
    source, student = stirred(language("bert")), language("bert", words=3)
    fresh = student.get_parameter("bert.embeddings.word_embeddings.weight")[1].clone()
    init_from(student, source, rows={"vocabulary": torch.tensor([40, -1, 7])})
    words = student.get_parameter("bert.embeddings.word_embeddings.weight")
    theirs = source.get_parameter("bert.embeddings.word_embeddings.weight")
    assert torch.equal(words[[0, 2]], theirs[[40, 7]]) and torch.equal(words[1], fresh)
    bias = student.get_parameter("cls.predictions.bias")
    assert torch.equal(bias[[0, 2]], source.get_parameter("cls.predictions.bias")[[40, 7]])


def test_another_vocabulary_stays_fresh_without_rows() -> None:
    source, student = stirred(language("llama")), language("llama", words=51)
    inherited = init_from(student, source)
    fresh = {row.name: row.reason for row in inherited.tensors if row.what == "fresh"}
    assert set(fresh) == {"model.embed_tokens.weight", "lm_head.weight"}
    assert fresh["lm_head.weight"] == "vocabulary: 51 here, 50 in the source, and no rows were given to match them"


def test_more_positions_than_the_source_has_begin_fresh_after_its_own() -> None:
    source, student = stirred(language("bert")), language("bert", max_position_embeddings=80)
    name = "bert.embeddings.position_embeddings.weight"
    fresh = student.get_parameter(name)[64:].clone()
    init_from(student, source)
    assert torch.equal(student.get_parameter(name)[:64], source.get_parameter(name))
    assert torch.equal(student.get_parameter(name)[64:], fresh)
    assert_same_outputs(student, source)


def test_norms_of_bert_by_tensorflows_names_are_taken() -> None:
    source, student = stirred(language("bert")), language("bert")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
           for name, value in source.state_dict().items()}  # fmt: skip
    assert init_from(student, old, source_config=source.config).share == 1
    assert_same_weights(student, source)


def test_the_student_keeps_its_own_precision() -> None:
    source, student = stirred(language("bert")), language("bert").to(torch.bfloat16)
    init_from(student, source)
    words = student.get_parameter("bert.embeddings.word_embeddings.weight")
    assert torch.equal(words, source.get_parameter("bert.embeddings.word_embeddings.weight").bfloat16())
