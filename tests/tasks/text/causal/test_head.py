"""The head that gives states in the place of logits: the same logits, no such memory, and models that it is not for."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn

from headstart.distill import Projection
from headstart.distill.projection import as_logits
from headstart.tasks.text.causal import head as module
from headstart.tasks.text.causal.head import attach_causal_head
from headstart.tasks.text.causal.model_config import CAUSAL
from headstart.tasks.text.causal.probe import has_linear_head, keeps_documents_apart, looks_ahead
from headstart.tasks.text.model_config import restore_config
from headstart.tasks.text.models import fresh
from tests.tasks.text.causal_tiny import FAMILIES, shape

VOCABULARY = 48
ROWS = torch.tensor([0, 1, 4, 7, 11])
TOKENS = torch.arange(12).view(2, 6)


def build(family: str = "llama", **settings: Any) -> Any:
    given = {"model_type": family, "vocab_size": VOCABULARY, "pad_token_id": None, **shape(family), **settings}
    return fresh(restore_config(given, CAUSAL), CAUSAL).eval()


@pytest.mark.parametrize("columns", [VOCABULARY, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_the_logits(family: str, columns: int) -> None:
    model = build(family)
    expected = model(input_ids=TOKENS).logits.flatten(0, 1)[ROWS, :columns]
    attach_causal_head(model, columns=columns)
    found = model(input_ids=TOKENS, next_token_rows=ROWS).logits
    assert isinstance(found, Projection) and found.hidden.shape == (5, 32)
    torch.testing.assert_close(as_logits(found), expected)


def test_without_rows_the_model_gives_what_it_gave() -> None:
    model = build()
    expected = model(input_ids=TOKENS).logits
    attach_causal_head(model, columns=40)
    assert torch.equal(model(input_ids=TOKENS).logits, expected)


def test_no_tensor_of_the_logits_size_is_made() -> None:
    model, made = build(), []
    attach_causal_head(model, columns=VOCABULARY)
    model.get_output_embeddings().register_forward_hook(lambda *given: made.append(given[-1].numel()))
    model(input_ids=TOKENS, next_token_rows=ROWS)
    assert made == [0]


def test_a_copy_has_a_head_of_its_own() -> None:
    model = build()
    attach_causal_head(model, columns=VOCABULARY)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_output_embeddings().weight.zero_()
    assert as_logits(other(input_ids=TOKENS, next_token_rows=ROWS).logits).abs().max() == 0
    assert as_logits(model(input_ids=TOKENS, next_token_rows=ROWS).logits).abs().max() > 0


def test_under_autocast_it_is_what_a_linear_layer_gives() -> None:
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model(input_ids=TOKENS).logits.flatten(0, 1)[ROWS]
        attach_causal_head(model, columns=VOCABULARY)
        found = model(input_ids=TOKENS, next_token_rows=ROWS).logits
    assert found.hidden.dtype == found.weight.dtype == torch.bfloat16
    torch.testing.assert_close(as_logits(found), expected)


@pytest.mark.parametrize(
    ("family", "settings"),
    [("gemma2", {"final_logit_softcapping": 30.0}), ("cohere", {}), ("granite", {"logits_scaling": 8.0})],
)
def test_logits_that_are_bounded_or_scaled_are_given_as_they_are(
    family: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_told", set())
    model = build(family, **settings)
    expected = model(input_ids=TOKENS).logits.flatten(0, 1)[ROWS, :40]
    with caplog.at_level(logging.WARNING):
        attach_causal_head(model, columns=40)
    assert f"{family}: its logits are not what a linear head makes" in caplog.text
    found = model(input_ids=TOKENS, next_token_rows=ROWS).logits
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("family", "linear", "ahead", "apart"),
    [
        ("llama", True, False, True),
        ("gpt2", True, False, True),
        ("qwen3", True, False, True),
        ("gemma2", False, False, True),
        ("bert", True, True, False),
    ],
)
def test_what_models_are_found_to_do(family: str, linear: bool, ahead: bool, apart: bool) -> None:
    model = build(family, **({"intermediate_size": 48} if family == "bert" else {})).train()
    assert has_linear_head(model) is linear
    assert looks_ahead(model) is ahead
    assert keeps_documents_apart(model) is apart
    assert model.training


def test_a_bert_that_is_a_decoder_does_not_look_ahead() -> None:
    assert not looks_ahead(build("bert", is_decoder=True))


def test_a_head_of_ones_own_is_not_taken_for_a_linear_layer() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = build()
    model.lm_head = Doubled(32, VOCABULARY, bias=False)
    assert not has_linear_head(model)
