"""Causal language models in loops that call the Distiller themselves."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from headstart import Distiller
from headstart.adapters.next_token import next_tokens
from tests.adapters.by_hand import CAUSAL, TEMPERATURE, WEIGHT, gradient_by_hand, stacked
from tests.adapters.tiny_models import model, rows


@pytest.mark.parametrize("kind", CAUSAL)
def test_gradient_is_that_of_the_loss_by_hand(kind: str) -> None:
    """With padding, prompts, and a teacher smaller than the student."""
    student, teacher, batch = model(kind), model(kind, width=4, seed=5), stacked(rows(kind, 4))
    expected = gradient_by_hand(student, teacher.eval(), batch, causal=True)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    outputs = student(**batch)
    distiller = Distiller(teacher, total_steps=1, stop=1.0, weight=WEIGHT, temperature=TEMPERATURE)
    loss = distiller(outputs.loss, outputs.logits, inputs, labels=next_tokens(batch["labels"]))
    found = torch.autograd.grad(loss, list(student.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_no_sequence_of_a_pack_predicts_the_next_one() -> None:
    packed = torch.tensor([[-100, 5, 6, -100, 7, -100, 8, 9]])  # three sequences, the first tokens without a label
    assert next_tokens(packed).tolist() == [[5, 6, -100, 7, -100, 8, 9, -100]]
