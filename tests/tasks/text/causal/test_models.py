"""Causal students by type and size or from a checkpoint, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.text import ClmModel
from headstart.tasks.text.causal.model_config import CAUSAL, build_causal_config
from headstart.tasks.text.causal.models import load_causal_checkpoint
from headstart.tasks.text.model_config import restore_config
from headstart.tasks.text.vocabulary import read_vocabulary
from tests.tasks.text.causal_tiny import FAMILIES, TOKENS, model, tokenizer

VOCABULARY = read_vocabulary(tokenizer(), needed=())


def config(given: ClmModel) -> Any:
    return build_causal_config(given, VOCABULARY, [0])


def parameters(found: Any) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in AutoModelForCausalLM.from_config(found).parameters())


@pytest.mark.parametrize(
    ("size", "named"), [("1m", 1e6), ("5m", 5e6), ("25m", 25e6), ("60m", 60e6), ("135m", 106e6), ("1b", 970e6)]
)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_size_is_named_by_its_parameters(size: Any, named: float, family: str) -> None:
    found = config(ClmModel(name=family, size=size))
    assert found.tie_word_embeddings
    assert 0.75 < (parameters(found) - found.hidden_size * found.vocab_size) / named < 1.15


def test_smollm2_with_its_own_vocabulary_has_its_own_size() -> None:
    """134.5 and 361.8 million, as its authors' files have them."""
    for size, expected in (("135m", 134_515_008), ("360m", 361_821_120)):
        settings = config(ClmModel(size=size)).to_dict() | {"vocab_size": 49152}
        assert parameters(restore_config(settings, CAUSAL)) == expected


@pytest.mark.parametrize("size", ["1m", "25m"])
def test_gpt2_takes_sizes_by_its_own_names(size: Any) -> None:
    found = config(ClmModel(name="gpt2", size=size))
    assert (found.n_embd, found.n_layer, found.n_head) == ((128, 4, 2) if size == "1m" else (512, 8, 8))


@pytest.mark.parametrize("family", FAMILIES)
def test_vocabulary_and_boundary_are_the_tokenizers_and_nothing_pads(family: str) -> None:
    found = build_causal_config(model(family), VOCABULARY, [3, 4])
    assert (found.vocab_size, found.eos_token_id, found.bos_token_id) == (len(TOKENS), 3, 4)
    assert found.pad_token_id is None
    assert restore_config(found.to_dict(), CAUSAL).to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "lama"}, "model: 'lama' is no type .* with a causal-LM head; did you mean 'llama'?"),
        ({"name": "vit"}, "model: vit has no causal-LM head in transformers; take a decoder"),
        ({"name": "bart"}, "model: bart is an encoder with a decoder; take a decoder alone"),
        ({"config": {"hiden_size": 64}}, "config.hiden_size: LlamaConfig has no such setting; did you mean 'h"),
        ({"name": "mamba", "size": "1m"}, "size='1m' has no meaning for mamba"),
        ({"name": "hub:no/such"}, "model: no/such: no configuration of a model can be had"),
    ],
)
def test_models_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        config(ClmModel.model_validate(given))


def test_a_checkpoint_is_loaded_with_its_weights_and_its_padding_cut_off(tmp_path: Path) -> None:
    padded = config(model())
    padded.vocab_size = 64
    AutoModelForCausalLM.from_config(padded).save_pretrained(tmp_path)
    found = load_causal_checkpoint(str(tmp_path), columns=len(TOKENS)).eval()
    tokens, rows = torch.randint(1, len(TOKENS), (2, 8)), torch.tensor([1, 9, 12])
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    expected = theirs(input_ids=tokens).logits.flatten(0, 1)[rows, : len(TOKENS)]
    given = found(input_ids=tokens, next_token_rows=rows).logits
    torch.testing.assert_close(given.hidden @ given.weight.T, expected)
    with pytest.raises(RecipeError, match="LlamaForCausalLM has 64 logits, fewer than the 65 tokens"):
        load_causal_checkpoint(str(tmp_path), columns=65)


def test_a_checkpoint_without_a_head_is_refused(tmp_path: Path) -> None:
    untied = config(model(tie_word_embeddings=False))
    AutoModel.from_config(untied).save_pretrained(tmp_path)
    with pytest.raises(HeadstartError, match=r"has no causal-LM head, or is no whole model: lm_head\.weight is mi"):
        load_causal_checkpoint(str(tmp_path), columns=len(TOKENS), config=untied)
