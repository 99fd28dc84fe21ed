"""What init_from reads, reports and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import headstart
from headstart.errors import InitError
from headstart.init import init_from
from headstart.tasks.images.resnet import ResNet
from tests.init.models import assert_same_weights, language, stirred


class Lazy(Mapping[str, Tensor]):
    """Reads a tensor when it is asked for, and counts."""

    def __init__(self, tensors: Mapping[str, Tensor], *, shapes: bool) -> None:
        self.tensors = tensors
        self.reads: dict[str, int] = {}
        if shapes:
            self.shapes = {name: tuple(value.shape) for name, value in tensors.items()}

    def __getitem__(self, name: str) -> Tensor:
        self.reads[name] = self.reads.get(name, 0) + 1
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@pytest.mark.parametrize("shapes", [True, False])
def test_a_mapping_is_read_tensor_by_tensor(shapes: bool) -> None:
    source = stirred(language("llama", layers=2))
    lazy = Lazy(source.state_dict(), shapes=shapes)
    student, same = language("llama", 16, 1, 2, 24), language("llama", 16, 1, 2, 24)
    init_from(student, lazy, source_config=source.config)
    init_from(same, source)
    assert_same_weights(student, same)
    if shapes:
        assert max(lazy.reads.values()) == 1
        assert not [name for name in lazy.reads if "layers.1" in name]


def test_heads_of_a_mapping_need_its_configuration() -> None:
    source = language("bert")
    with pytest.raises(InitError, match=r"how many attention heads it has is not in its tensors; give source_config"):
        init_from(language("bert"), source.state_dict())
    assert init_from(language("bert"), source.state_dict(), source_config={"num_attention_heads": 4}).share == 1


def test_the_report_can_be_read_and_kept() -> None:
    inherited = init_from(language("modernbert", 16, 2, 2, 24), language("modernbert"))
    lines = inherited.table().splitlines()
    assert lines[0].split() == ["tensor", "from", "what", "shape", "of"]
    assert lines[2].split()[2:] == ["selected", "16", "32"]
    assert "100.0 % of the parameters inherited: " in inherited.table()
    again = json.loads(json.dumps(inherited.to_dict()))
    assert again["share"] == 1 and again["indices"]["hidden"] == list(range(0, 32, 2))
    assert again["tensors"][0]["source_shape"] == [50, 32]
    assert isinstance(inherited, headstart.Inherited)


def nan(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    return model


REFUSED: dict[str, tuple[Callable[[], tuple[nn.Module, Any]], dict[str, Any], str]] = {
    "unrelated": (
        lambda: (language("bert"), language("llama")),
        {},
        r"unrelated to the student: the student is a BERT, the source a Llama; give a source of the student's",
    ),
    "unrelated kin": (
        lambda: (language("bert"), language("roberta")),
        {},
        r"the student is a BERT, the source a BERT \(roberta\)",
    ),
    "unrelated stranger": (
        lambda: (language("bert"), nn.Linear(2, 2)),
        {},
        "the source of another one",
    ),
    "shortcuts": (
        lambda: (ResNet(8, classes=3, width=4), with_projection(ResNet(8, classes=3, width=4))),
        {},
        "shortcuts join other stages",
    ),
    "heads": (
        lambda: (
            language("llama", 32, heads=8, num_key_value_heads=2, head_dim=8),
            language("llama", 32, heads=8, num_key_value_heads=4, head_dim=8),
        ),
        {},
        "heads cannot be kept whole: the student has 2 heads of keys and values with 4 of queries each, the source 4",
    ),
    "grow from a larger one": (
        lambda: (language("bert", 16, heads=2), language("bert")),
        {"how": "grow"},
        r"how='grow' takes a smaller source, but the number of attention heads is 4 in the source and 2 in the student",
    ),
    "select from a shallower one": (
        lambda: (language("bert", layers=4), language("bert")),
        {"how": "select"},
        "how='select' takes a larger source, but the number of encoder.layer is 3 in the source and 4 in the student",
    ),
    "quantised": (
        lambda: (nn.Linear(2, 3), {"weight": torch.zeros(3, 2, dtype=torch.int8), "bias": torch.zeros(3)}),
        {},
        "weight is quantised; give the weights as they were before quantisation",
    ),
    "quantised by name": (
        lambda: (nn.Linear(2, 3), {"qweight": torch.zeros(3), "x.qweight": torch.zeros(3)}),
        {},
        "x.qweight is quantised",
    ),
    "lazy and quantised": (
        lambda: (nn.Linear(2, 3), Lazy({"weight": torch.zeros(3, 2, dtype=torch.uint8)}, shapes=True)),
        {},
        r"weight is quantised \(uint8\)",
    ),
    "not finite": (lambda: (language("bert"), nan(language("bert"))), {}, "not finite"),
    "too large for half": (
        lambda: (nn.Linear(1, 1).half(), {"weight": torch.full((1, 1), 1e6), "bias": torch.zeros(1)}),
        {},
        r"weight has values too large for the student's torch.float16",
    ),
    "require": (
        lambda: (language("llama", words=51), language("llama")),
        {"require": 0.95},
        r"require=0.95: only \d+.\d% of the student's parameters would come from the source. The largest that would "
        r"not: model.embed_tokens.weight \(vocabulary: 51 here",
    ),
    "meta": (lambda: (nn.Linear(2, 3, device="meta"), nn.Linear(2, 3)), {}, "student: weight is on the meta device"),
    "meta source": (lambda: (nn.Linear(2, 3), nn.Linear(2, 3, device="meta")), {}, "source: weight is on the meta"),
    "no tensors": (lambda: (nn.Linear(2, 3), {"weight": {"weight": 1}, "bias": 2}), {}, "weight is no tensor"),
    "no way": (lambda: (nn.Linear(2, 3), nn.Linear(2, 3)), {"how": "cut"}, "how='cut' is unknown; give auto, copy"),
    "no batches": (
        lambda: (language("bert"), language("bert")),
        {"scores": "activation"},
        r"scores='activation' looks at the source at work: give batches",
    ),
    "empty batches": (
        lambda: (language("bert"), language("bert")),
        {"compensate": True, "batches": []},
        "batches: there was none",
    ),
    "scores of tensors": (
        lambda: (language("bert"), language("bert").state_dict()),
        {"scores": "activation", "batches": [1], "source_config": {"num_attention_heads": 4}},
        "need a source that can run",
    ),
    "shrink": (
        lambda: (language("bert", 16, heads=2), language("bert")),
        {"shrink": 0.4},
        "shrink and perturb are for a source of the student's shape",
    ),
    "shrink and select": (
        lambda: (nn.Linear(2, 3), nn.Linear(2, 3)),
        {"how": "select", "shrink": 0.4},
        "shrink and perturb are for how='copy', not for 'select'",
    ),
    "rows of nothing": (
        lambda: (language("bert"), language("bert")),
        {"rows": {"words": torch.zeros(50)}},
        r"rows\['words'\]: the student has no such axis or tensor; its axes of content: positions, types, vocabulary",
    ),
    "rows too few": (
        lambda: (language("bert"), language("bert")),
        {"rows": {"vocabulary": torch.zeros(3, dtype=torch.long)}},
        r"rows\['vocabulary'\]: one whole number for each of the student's 50 rows is needed, not 3 \(int64\)",
    ),
    "rows past the end": (
        lambda: (language("bert"), language("bert")),
        {"rows": {"vocabulary": torch.arange(1, 51)}},
        r"rows\['vocabulary'\]: 50 is no row of the source, which has 50",
    ),
}


def with_projection(model: ResNet) -> ResNet:
    model.layer2[0].downsample = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8))
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_changed(case: str) -> None:
    build, options, said = REFUSED[case]
    student, source = build()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(InitError, match=said):
        init_from(student, source, **options)
    if case != "meta":
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
