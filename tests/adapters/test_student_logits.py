"""The student's logits where a Trainer returns them, and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

from headstart.adapters.model_head import logits_of
from headstart.adapters.student_logits import StudentLogits
from headstart.errors import HeadstartError
from tests.adapters.tiny_models import model, rows

Made = tuple[Tensor, Any, bool]
Compute = Callable[[bool], Made]


def batch() -> tuple[dict[str, Tensor], Tensor]:
    data = rows("llama", 2)
    given = {name: torch.stack([row[name] for row in data]) for name in data[0]}
    labels = given.pop("labels")
    return given, labels


def returning(student: Any, given: Any, labels: Tensor) -> Compute:
    """As transformers' own Trainer."""

    def compute(_: bool) -> Made:
        outputs = student(**given, labels=labels)
        return outputs.loss, outputs, True

    return compute


def hiding(student: Any, given: Any, labels: Tensor) -> Compute:
    """Outputs that are made again, without a gradient."""

    def compute(ask: bool) -> Made:
        loss = student(**given, labels=labels).loss
        with torch.no_grad():
            return loss, student(**given) if ask else None, True

    return compute


def fused(student: Any, given: Any, labels: Tensor) -> Compute:
    """A loss that is made of the last states and the head's weights, so that logits never exist in full."""

    def compute(ask: bool) -> Made:
        states = student.base_model(**given).last_hidden_state[:, :-1]
        parts = zip(states.unbind(0), labels[:, 1:].unbind(0), strict=True)
        weight = student.get_output_embeddings().weight
        losses = [F.cross_entropy(part @ weight.T, of, reduction="sum") for part, of in parts]
        loss = torch.stack(losses).sum() / (labels[:, 1:] != -100).sum()
        with torch.no_grad():
            return loss, student(**given) if ask else None, True

    return compute


@pytest.mark.parametrize("kind", [returning, hiding, fused])
def test_gradients_are_those_of_one_forward(kind: Callable[..., Compute]) -> None:
    student, (given, labels) = model("llama"), batch()
    direct = student(**given, labels=labels)
    parameters = list(student.parameters())
    expected = torch.autograd.grad(direct.loss + direct.logits.square().mean(), parameters)
    finder = StudentLogits(student, logits_of)
    for _ in range(2):  # what was found in the first step holds in the second
        ran = finder.run(kind(student, given, labels), student, given, outputs=False)
        torch.testing.assert_close(ran.logits, direct.logits)
        found = torch.autograd.grad(ran.loss + ran.logits.square().mean(), parameters, retain_graph=True)
        torch.testing.assert_close(found, expected)
        assert torch.autograd.grad(ran.loss, ran.inner)[0] is not None


@pytest.mark.parametrize(("kind", "forwards"), [(returning, [1, 1]), (hiding, [2, 1]), (fused, [2, 1])])
def test_the_model_runs_no_more_often_than_its_trainer_runs_it(kind: Callable[..., Compute], forwards: Any) -> None:
    """But for the first step, which asks for the outputs."""
    student, (given, labels) = model("llama"), batch()
    ran: list[int] = []
    student.base_model.layers[0].register_forward_hook(lambda *_: ran.append(1))
    finder, counts = StudentLogits(student, logits_of), []
    for _ in range(2):
        ran.clear()
        finder.run(kind(student, given, labels), student, given, outputs=False)
        counts.append(len(ran))
    assert counts == forwards
    assert not student._forward_hooks
    assert not student.base_model._forward_hooks
    assert "forward" not in vars(student.base_model)


@pytest.mark.parametrize("kind", [returning, hiding, fused])
def test_a_first_step_draws_no_more_than_another(kind: Callable[..., Compute]) -> None:
    """Else a training that is resumed, whose first step is another one, would get other dropout from there on."""
    student, (given, labels) = model("llama"), batch()
    student.base_model.layers[0].register_forward_hook(lambda _, __, outputs: F.dropout(outputs, 0.5))
    finder, drawn = StudentLogits(student, logits_of), []
    for _ in range(2):
        torch.manual_seed(0)
        finder.run(kind(student, given, labels), student, given, outputs=False)
        drawn.append(torch.rand(()))
    torch.manual_seed(0)
    kind(student, given, labels)(False)
    assert drawn == [torch.rand(())] * 2


def test_a_loss_that_cannot_be_seen_into() -> None:
    student, (given, _) = model("llama"), batch()
    weight = torch.ones((), requires_grad=True)
    with pytest.raises(
        HeadstartError, match=r"gave no `logits` to distil.*use_liger_kernel=False.*torch_compile=False"
    ):
        StudentLogits(student, logits_of).run(lambda _: (weight * 2, None, True), student, given, outputs=False)


def test_a_compiled_student_is_left_as_it_is() -> None:
    """A hook would be compiled into it, and run for ever; by torch.compile without its code generator."""
    student: Any = torch.compile(model("llama"), backend="eager")
    given, labels = batch()
    for _ in range(2):
        finder = StudentLogits(student, logits_of)
        assert finder.run(returning(student, given, labels), student, given, outputs=False).logits.requires_grad
    with pytest.raises(HeadstartError, match="torch_compile=False"):
        StudentLogits(student, logits_of).run(hiding(student, given, labels), student, given, outputs=False)
    assert not any(module._forward_hooks for module in student.modules())
