"""Which models are taken for causal ones, where their loss does not tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

import transformers

from headstart.adapters import causal
from headstart.adapters.causal import is_causal
from tests.adapters.tiny_models import model


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
    ("student", "expected"),
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
def test_who_predicts_the_next_token(student: nn.Module, expected: bool) -> None:
    assert is_causal(student) is expected


def test_the_names_kept_here_are_those_of_transformers() -> None:
    assert all(hasattr(transformers, name) for name in causal._CAUSAL)
