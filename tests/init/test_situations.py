"""Sources and students that look as if they fitted, and do not compute the same: told, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init import init_from
from headstart.init.picking.by_size import UNSEEN
from headstart.tasks.images.resnet import ResNet
from tests.init.models import assert_same_outputs, language, outputs, stirred


def loses(student: nn.Module, source: nn.Module) -> bool:
    """The student does not give what the source gives."""
    return not torch.allclose(outputs(student), outputs(source), rtol=1e-3, atol=1e-4)


OTHER: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "activation": ({"hidden_act": "gelu"}, {"hidden_act": "relu"}, "bert", "hidden_act: gelu in the source, relu in"),
    "window": ({"local_attention": 8}, {"local_attention": 4}, "modernbert", "local_attention: 8 in the source, 4 in"),
    "frequencies": (
        {},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        "llama",
        "rope_parameters: another one in the source",
    ),
    "scaled": (
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
        {},
        "llama",
        "rope_parameters: another one in the source",
    ),
    "root-mean": ({"rms_norm_eps": 1.0}, {"rms_norm_eps": 1e-6}, "llama", "rms_norm_eps: 1.0 in the source, 1e-06 in"),
    "norms": ({"layer_norm_eps": 1.0}, {"layer_norm_eps": 1e-12}, "bert", "layer_norm_eps: 1.0 in the source, 1e-12"),
    "gpt2-norms": ({"layer_norm_epsilon": 1.0}, {}, "gpt2", "layer_norm_epsilon: 1.0 in the source, 1e-05 in the"),
    "modernbert-norms": ({"norm_eps": 1.0}, {}, "modernbert", "norm_eps: 1.0 in the source, 1e-05 in the student"),
    "unscaled": ({"scale_attn_weights": False}, {}, "gpt2", "scale_attn_weights: False in the source, True in the"),
    "by place": (
        {"scale_attn_by_inverse_layer_idx": True},
        {},
        "gpt2",
        "scale_attn_by_inverse_layer_idx: True in the source, False in the student",
    ),
    "heads": ({"heads": 4}, {"heads": 8}, "bert", "heads: 8 of 4 channels out of 4 of 8 channels, some cut and some"),
}


@pytest.mark.parametrize("case", OTHER)
def test_the_same_weights_in_another_computation_are_told(case: str) -> None:
    theirs, mine, kind, said = OTHER[case]
    source, student = stirred(language(kind, **theirs)), language(kind, **mine)
    (note,) = init_from(student, source).notes
    assert note.startswith(said) and note.endswith("outputs are not preserved")
    assert loses(student, source)


def test_layers_that_divide_by_their_place_are_told_where_they_move() -> None:
    by_place = {"scale_attn_by_inverse_layer_idx": True}
    source, same = stirred(language("gpt2", layers=4, **by_place)), language("gpt2", layers=4, **by_place)
    assert init_from(same, source).notes == ()
    assert_same_outputs(same, source)
    (note,) = init_from(language("gpt2", layers=2, **by_place), source).notes
    assert note.startswith("h: layers at other places than the source's divide by these")


@pytest.mark.parametrize(("kind", "left"), [("qwen2", "self_attn.q_proj.bias"), ("qwen3", "self_attn.q_norm.weight")])
def test_parts_of_layers_that_the_student_does_not_have_are_told(kind: str, left: str) -> None:
    source, student = stirred(language(kind)), language("llama")
    (note,) = init_from(student, source).notes
    assert note.startswith(f"the student has no {left}, ")
    assert loses(student, source)


def test_a_head_of_its_own_is_told_of_tensors_too() -> None:
    source = stirred(language("llama", tie_word_embeddings=False))
    student, state = language("llama", tie_word_embeddings=True), dict(source.state_dict())
    (note,) = init_from(student, state, source_config=source.config).notes
    assert note.endswith("the source's own (lm_head.weight) is not used")
    tied = stirred(language("llama", tie_word_embeddings=True))  # its state dict has the head under both names
    assert init_from(student, dict(tied.state_dict()), source_config=tied.config).notes == ()
    assert_same_outputs(student, tied)


def test_a_source_without_a_head_has_none_that_is_not_used() -> None:
    student = language("bert")
    source = transformers.BertForSequenceClassification(student.config)  # type: ignore[arg-type]
    assert init_from(student, source).notes == ()


def test_adapters_are_refused_before_and_after() -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    plain = language("llama")
    wrapped = peft.get_peft_model(language("llama"), peft.LoraConfig(target_modules=["q_proj"], r=2))
    with pytest.raises(
        InitError, match=r"source: has LoRA adapters beside its weights \(.*lora_A.*\); merge them first"
    ):
        init_from(plain, wrapped)
    with pytest.raises(InitError, match=r"student: has LoRA adapters beside .*; put them on after init_from"):
        init_from(wrapped, plain)
    merged = wrapped.merge_and_unload()
    assert init_from(plain, merged).share == 1


def named(*labels: str) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        id2label=dict(enumerate(labels)),
    )
    return transformers.BertForSequenceClassification(config)


def test_classes_in_another_order_are_refused_until_they_are_matched() -> None:
    source, student = named("cat", "dog", "owl"), named("owl", "dog", "cat")
    with pytest.raises(InitError, match=r"classes: cat, dog, owl\.\.\. in the source, owl, dog, cat\.\.\. in the"):
        init_from(student, source)
    init_from(student, source, rows={"classes": torch.tensor([2, 1, 0])})
    theirs = source.get_parameter("classifier.weight")
    assert torch.equal(student.get_parameter("classifier.weight"), theirs[[2, 1, 0]])
    assert init_from(named("Cat", "DOG", "owl"), source).share == 1
    assert init_from(named("LABEL_0", "LABEL_1", "LABEL_2"), source).share == 1


class Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.inside = nn.MultiheadAttention(16, heads, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.inside(x, x, x, need_weights=False)[0])
        return result


def test_attention_of_equal_shapes_but_other_heads_stays_fresh() -> None:
    student, source = Attention(4), Attention(2)
    rows = {row.name: row for row in init_from(student, source).tensors}
    assert rows["inside.in_proj_weight"].what == "fresh" and rows["out.weight"].what == "copied"
    assert rows["inside.in_proj_weight"].reason.startswith("num_heads is 2 in the source, 4 here")
    assert init_from(Attention(2), source).share == 1


class Twice(nn.Module):
    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = self.first if shared else nn.Linear(4, 4)


def test_a_tensor_that_is_several_in_the_source_is_told() -> None:
    inherited = init_from(Twice(shared=True), Twice(shared=False))
    assert inherited.notes[0] == (
        "first.weight and second.weight are one tensor in the student and several in the source: first.weight is taken"
    )
    assert init_from(Twice(shared=False), Twice(shared=True)).notes == ()


class Tied(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.words, self.inside = nn.Embedding(11, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.inside(self.words(x))))
        return result


def test_a_tied_head_that_grows_without_a_norm_before_it_is_told() -> None:
    source, student, words = Tied(4), Tied(8), torch.arange(11)
    note, unseen = init_from(student, source).notes
    assert unseen == UNSEEN and note == (
        "words.weight and head.weight are one tensor, read at one place and written at the other: outputs are not "
        "preserved"
    )
    assert not torch.allclose(student(words), source(words))
    assert init_from(Tied(4), source).notes == ()


def grouped(width: int, groups: int) -> nn.Module:
    layers = [nn.Conv2d(3, width, 1), nn.GroupNorm(groups, width), nn.Conv2d(width, 4, 1)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("groups", "kept"), [(4, True), (2, False)])
def test_groups_of_channels_that_become_others_are_told(groups: int, kept: bool) -> None:
    source, student = stirred(grouped(8, 2)), grouped(16, groups)
    notes = init_from(student, source).notes
    assert notes[-1] == UNSEEN
    images = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(student(images), source(images), atol=1e-5) is kept
    assert (len(notes) == 1) is kept


def test_norms_of_no_known_family_are_told_of_too() -> None:
    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Linear(width, 2))

    note, _ = init_from(build(12), build(8)).notes
    assert note == "12 is no whole multiple of 8, so that norms see other means: outputs are not preserved"
    assert init_from(build(16), build(8)).notes == (UNSEEN,)


@pytest.mark.parametrize("asked", [{"scores": "activation"}, {"compensate": True}])
def test_choosing_among_units_where_all_are_kept_is_told(asked: dict[str, Any]) -> None:
    batches = [torch.arange(18).reshape(2, 9)]
    source = stirred(language("bert", layers=4))
    plain, student, narrow = language("bert", layers=2), language("bert", layers=2), language("bert", 32, 2, 4, 24)
    init_from(plain, source)
    (note,) = init_from(student, source, batches=batches, **asked).notes
    assert note.startswith(f"{next(iter(asked))} changed nothing: no units are left out")
    assert_same_outputs(student, plain)
    assert init_from(narrow, source, batches=batches, **asked).notes == ()


def test_there_is_nothing_to_compensate_in_a_network_of_convolutions() -> None:
    student, source = ResNet(8, classes=3, width=4), ResNet(8, classes=3, width=8)
    with pytest.raises(InitError, match=r"and a ResNet of basic blocks has none; leave it out"):
        init_from(student, source, compensate=True, batches=[torch.zeros(2, 3, 8, 8)])


def test_what_sizes_ask_for_is_told_in_depth_too() -> None:
    def ways(student: nn.Module, source: nn.Module) -> tuple[str, ...]:
        return init_from(student, source).ways

    assert ways(language("bert"), language("bert")) == ("copy",)
    assert ways(language("bert", layers=2), language("bert")) == ("select",)
    assert ways(language("bert", 64, heads=8), language("bert")) == ("grow",)
    assert ways(language("bert", 16, layers=4, heads=2), language("bert")) == ("select", "grow")
    assert ways(nn.Linear(3, 2), nn.Linear(3, 2)) == ("copy",)
    assert ways(nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))) == ("select",)


class Masked(nn.Module):
    """A causal mask that is saved beside the weights."""

    def __init__(self, mask: float = 0.0) -> None:
        super().__init__()
        self.inside, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.register_buffer("mask", torch.triu(torch.full((4, 4), mask), 1))


def test_a_causal_mask_may_be_infinite_but_no_weight() -> None:
    source, student = Masked(float("-inf")), Masked(float("-inf"))
    assert init_from(student, source).share == 1
    assert torch.equal(student.get_buffer("mask"), source.get_buffer("mask"))
    for name in ("inside.weight", "norm.running_var"):
        broken = Masked()
        broken.state_dict()[name].fill_(float("inf"))
        with pytest.raises(InitError, match="not finite"):
            init_from(student, broken)
    with pytest.raises(InitError, match="too large for the student's"):
        init_from(Masked().half(), Masked(-1e38))
