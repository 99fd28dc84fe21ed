"""A step that is compiled as a whole, with the Distiller in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller, TeacherPool
from tests.distill.batch import CLASSES, FEATURES, INPUTS, LABELS


@pytest.mark.parametrize("together", [False, True], ids=["added", "together"])
def test_compiled_steps_are_those_of_python(together: bool) -> None:
    """Through the window's end and with changing teachers, and the graphs of the first step serve all others."""
    student, pool = nn.Linear(FEATURES, CLASSES), TeacherPool([nn.Linear(FEATURES, CLASSES) for _ in range(3)])
    distiller, graphs = Distiller(pool, total_steps=12, stop=0.5), []

    def step(inputs: Tensor, labels: Tensor) -> Tensor:
        logits = student(inputs)
        if together:
            return distiller.loss(logits, labels, inputs)
        return distiller(F.cross_entropy(logits, labels), logits, inputs)

    def note(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(step, backend=note)
    made = []
    for _ in range(12):
        losses = [call(INPUTS, LABELS) for call in (step, compiled)]
        gradients = [torch.autograd.grad(loss, student.weight)[0] for loss in losses]
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(gradients[1], gradients[0])
        made.append(len(graphs))
        distiller.step()
    assert 0 < made[0] == made[-1]
