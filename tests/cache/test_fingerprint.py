"""The fingerprint: it changes with what targets depend on, and with nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstart.cache import Fingerprint, fingerprint
from headstart.cache.fingerprint import differences, sketch, weights_hash
from headstart.distill import Teacher
from tests.cache.toy import DATA, Toy, toy_teacher

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(5)}


def made(**changes: Any) -> Fingerprint:
    return fingerprint(changes.get("teacher", toy_teacher()), changes.get("task", Toy()), changes.get("data", DATA))


def test_the_same_again_does_not_differ() -> None:
    assert differences(made(), made()) == []


def test_it_survives_being_written() -> None:
    cached = made(data={**DATA, "sizes": (1, 2)})
    again = Fingerprint.model_validate_json(cached.model_dump_json())
    assert differences(again, made(data={**DATA, "sizes": (1, 2)})) == []


@pytest.mark.parametrize(
    ("now", "line"),
    [
        ({"teacher": toy_teacher(seed=1)}, "teacher.weights: '.*' in the cache, '.*' now"),
        (
            {"teacher": toy_teacher(autocast=torch.bfloat16)},
            "teacher.autocast: 'None' in the cache, 'torch.bfloat16' now",
        ),
        ({"teacher": toy_teacher(classes=8)}, "teacher.weights: "),
        ({"data": {**DATA, "augment": {"shift": 4}}}, "data.augment.shift: 3 in the cache, 4 now"),
        ({"data": {**DATA, "seed": 1}}, "data.seed: 0 in the cache, 1 now"),
        ({"data": {"name": "toy"}}, "data.seed: 0 in the cache, nothing now"),
        ({"task": Toy(seed=1)}, "inputs: the samples look different"),
        ({"task": Toy(order_seed=1)}, "inputs: the samples look different"),
        (
            {"teacher": toy_teacher(prepare=lambda x: x + 0.01)},
            "teacher: it is given other normalisation or resolution",
        ),
    ],
)
def test_what_differs_is_named(now: dict[str, Any], line: str) -> None:
    lines = differences(made(), made(**now))
    assert any(re.match(line, found) for found in lines)


def test_without_a_teacher_only_the_data_is_compared() -> None:
    assert differences(made(), fingerprint(None, Toy(), DATA)) == []
    assert [line.split(":")[0] for line in differences(made(), fingerprint(None, Toy(seed=1), DATA))] == ["inputs"]


def test_long_values_are_cut_short() -> None:
    (line,) = differences(made(data={"classes": ["x" * 30] * 9}), made(data={"classes": ["y" * 30] * 9}))
    assert len(line) < 200


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "a": state["a"] + torch.tensor([0.0, 0.0, 1e-6])},
        lambda state: {**state, "a": state["a"].view(3, 2)},
        lambda state: {**state, "a": state["a"].double()},
        lambda state: {"c": state["a"], "b": state["b"]},
        lambda state: {"a": state["a"]},
    ],
    ids=["a number", "the shape", "the dtype", "a name", "a tensor less"],
)
def test_weights_hash_changes_with(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    assert weights_hash(change(STATE)) != weights_hash(STATE)


def test_weights_hash_does_not_mind_memory_format_or_order() -> None:
    weight = torch.randn(2, 3, 4, 4)
    strided = {"b": STATE["b"], "w": weight.contiguous(memory_format=torch.channels_last)}
    assert weights_hash(strided) == weights_hash({"w": weight, "b": STATE["b"]})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.bool])
def test_weights_hash_takes_all_dtypes(dtype: torch.dtype) -> None:
    assert weights_hash({"a": torch.ones(3, dtype=dtype)}) != weights_hash({"a": torch.zeros(3, dtype=dtype)})


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.flip(-1),
        lambda x: x.roll(1, 2),
        lambda x: x.roll(1, 0),
        lambda x: x + 0.001,
        lambda x: x * 1.01,
        lambda x: x[:, :, :7],
    ],
    ids=["mirrored", "shifted", "other samples", "another mean", "another std", "another size"],
)
def test_sketch_sees(change: Callable[[Tensor], Tensor]) -> None:
    assert differences(_with_inputs(IMAGES), _with_inputs(change(IMAGES)))


def test_sketch_does_not_see_rounding() -> None:
    assert not differences(_with_inputs(IMAGES), _with_inputs(IMAGES * (1 + 3e-7)))


def test_sketch_sees_one_token_of_a_mapping() -> None:
    tokens = torch.randint(30522, (8, 128), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[3, 70] = 103
    assert differences(_with_inputs({"input_ids": tokens}), _with_inputs({"input_ids": other}))
    assert sketch({"a": IMAGES, "n": 3, "b": tokens}) == sketch({"b": tokens, "a": IMAGES}) == sketch((IMAGES, tokens))


def _with_inputs(inputs: Any) -> Fingerprint:
    return Fingerprint(data={}, inputs=sketch(inputs), teacher=None, prepared=[])


def test_it_hashes_what_runs() -> None:
    module = nn.Linear(3, 7)
    before = made(teacher=Teacher(module))
    with torch.no_grad():
        module.bias[0] += 1.0
    assert [line.split(":")[0] for line in differences(before, made(teacher=Teacher(module)))] == ["teacher.weights"]
