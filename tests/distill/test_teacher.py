"""A teacher stays as it was, whatever surrounds it."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstart.distill import Teacher
from headstart.errors import TeacherError

Named = namedtuple("Named", ["loss", "logits"])


class Restless(nn.Module):
    """A net with all that changes in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layers(inputs)
        return output


class Two(nn.Module):
    """Takes two named arguments."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


def test_stays_in_eval_mode_under_a_parent_in_train_mode() -> None:
    module = Restless()
    module(torch.randn(16, 4))  # statistics that are not the initial ones
    teacher = Teacher(module)
    parent = nn.ModuleDict({"student": nn.Linear(4, 3), "teacher": module})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    inputs = torch.randn(16, 4)
    first = teacher.logits(inputs)
    for _ in range(20):
        parent.train()
        assert torch.equal(teacher.logits(inputs), first)  # no dropout
        assert not any(part.training for part in module.modules())
        teacher.logits(torch.randn(16, 4) + 5)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert parent["student"].training


def test_a_part_in_train_mode_is_put_back() -> None:
    module = Restless()
    teacher = Teacher(module)
    module.layers[1].train()
    teacher.logits(torch.randn(16, 4))
    assert module.layers[1].num_batches_tracked == 0
    assert not module.layers[1].training


def test_is_frozen() -> None:
    teacher = Teacher(Restless().train())
    assert not teacher.module.training
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    inputs = torch.randn(2, 4, requires_grad=True)
    teacher.module.requires_grad_(True)  # as a parent might
    output = teacher.logits(inputs)
    assert not output.requires_grad
    assert torch.is_grad_enabled()
    assert not output.is_inference()


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.ones(2, 3), torch.zeros(2, 3)),
        {"left": torch.ones(2, 3), "right": torch.zeros(2, 3)},
        SimpleNamespace,
    ],
    ids=["tuple", "mapping", "prepared"],
)
def test_inputs(inputs: Any) -> None:
    prepare = (lambda _: (torch.ones(2, 3), torch.zeros(2, 3))) if inputs is SimpleNamespace else None
    assert torch.equal(Teacher(Two(), prepare=prepare).logits(inputs), torch.ones(2, 3))


LOGITS = torch.ones(2, 3)


@pytest.mark.parametrize(
    "output",
    [LOGITS, {"logits": LOGITS, "loss": None}, SimpleNamespace(logits=LOGITS), Named(loss=None, logits=LOGITS)],
    ids=["tensor", "mapping", "object", "named tuple"],
)
def test_outputs(output: Any, given: Callable[[Any], nn.Module]) -> None:
    assert Teacher(given(output)).logits(torch.zeros(2, 4)) is LOGITS


@pytest.mark.parametrize("output", [{"scores": LOGITS}, (LOGITS, LOGITS), None, SimpleNamespace(logits=[1.0])])
def test_outputs_without_logits(output: Any, given: Callable[[Any], nn.Module]) -> None:
    message = rf"teacher 'old': its forward gave no logits; it must return a tensor.*not {type(output).__name__}"
    with pytest.raises(TeacherError, match=message):
        Teacher(given(output), name="old").logits(torch.zeros(2, 4))


def test_a_failing_forward_names_the_teacher() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as failure:
        Teacher(nn.Linear(4, 3), name="old").logits(torch.zeros(2, 5))
    assert failure.value.__notes__ == ["in the forward of teacher 'old'"]


@pytest.mark.parametrize("module", ["teacher.pt", nn.Linear, None])
def test_must_be_a_module(module: Any) -> None:
    kind = type(module).__name__
    with pytest.raises(
        TeacherError, match=rf"must be a torch module, not {kind}; load one with headstart.load_teacher"
    ):
        Teacher(module)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"input": x}], ids=["tensor", "tuple", "dict"])
def test_autocast_is_its_own(wrap: Callable[[Tensor], Any]) -> None:
    inputs = wrap(torch.ones(2, 4))
    assert Teacher(nn.Linear(4, 3)).logits(inputs).dtype == torch.float32
    assert Teacher(nn.Linear(4, 3), autocast=torch.bfloat16).logits(inputs).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Teacher(nn.Linear(4, 3)).logits(inputs).dtype == torch.bfloat16


def test_is_named_after_its_class_unless_told() -> None:
    assert Teacher(nn.Linear(2, 3)).name == "Linear"
    assert Teacher(nn.Linear(2, 3), name="last month's").name == "last month's"


@pytest.mark.parametrize("module", [nn.Linear(2, 3), nn.Identity()])
def test_moves_to_a_device(module: nn.Module) -> None:
    teacher = Teacher(module)
    teacher.to(torch.device("cpu"))
    pointers = [parameter.data_ptr() for parameter in module.parameters()]
    teacher.to(torch.device("cpu"))
    assert [parameter.data_ptr() for parameter in module.parameters()] == pointers
    teacher.to(torch.device("meta"))
    assert all(parameter.device.type == "meta" for parameter in module.parameters())
