"""Which models are causal, which label belongs to which row, and where the logits are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

import transformers

from headstart.adapters import rows
from headstart.adapters.causal import is_causal
from headstart.errors import HeadstartError
from tests.adapters.tiny_models import model

LABELS = torch.tensor([[-100, 7, 8]])


class Own(nn.Module):
    """A model of one's own that says what it is."""

    def __init__(self, loss_type: str, *, encoder_decoder: bool = False) -> None:
        super().__init__()
        self.loss_type, self.config = loss_type, SimpleNamespace(is_encoder_decoder=encoder_decoder)


class Peft(nn.Module):
    """As PEFT wraps a model."""

    def get_base_model(self) -> nn.Module:
        return Own("ForCausalLM")


@pytest.mark.parametrize(
    ("student", "causal"),
    [
        *((model(kind), kind in ("gpt2", "llama")) for kind in ("bert", "classifier", "gpt2", "llama", "modernbert")),
        (Own("ForCausalLM"), True),
        (Own("ForMaskedLM"), False),
        (Own("ForCausalLM", encoder_decoder=True), False),
        (Peft(), True),
        (torch.compile(model("gpt2")), True),
        (nn.Linear(2, 3), False),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, nn.Module) else str(given),
)
def test_who_predicts_the_next_token(student: nn.Module, causal: bool) -> None:
    assert is_causal(student) is causal


def test_the_names_kept_here_are_those_of_transformers() -> None:
    assert all(hasattr(transformers, name) for name in rows._CAUSAL)


@pytest.mark.parametrize(
    ("batch", "causal", "expected"),
    [
        ({"labels": LABELS}, True, [[7, 8, -100]]),
        ({"labels": LABELS}, False, [[-100, 7, 8]]),
        ({"labels": LABELS, "shift_labels": LABELS + 1}, True, [[-99, 8, 9]]),
        ({}, True, None),
    ],
)
def test_the_label_of_each_row(batch: Any, causal: bool, expected: Any) -> None:
    found = labels_of(batch, causal=causal)
    assert (found if found is None else found.tolist()) == expected


def test_where_the_logits_are() -> None:
    assert logits_of({"loss": 1.0, "logits": LABELS}, after_loss=True) is LABELS
    assert logits_of(SimpleNamespace(logits=LABELS), after_loss=False) is LABELS
    assert logits_of(LABELS, after_loss=False) is LABELS
    assert logits_of((1.0, LABELS), after_loss=True) is LABELS
    assert logits_of((LABELS, LABELS + 1), after_loss=False) is LABELS


@pytest.mark.parametrize("outputs", [{"loss": 1.0, "logits": (LABELS, LABELS)}, (1.0,), None])
def test_outputs_without_logits(outputs: Any) -> None:
    with pytest.raises(HeadstartError, match=r"gave no `logits` to distil.*use_liger_kernel=True"):
        logits_of(outputs, after_loss=True)
