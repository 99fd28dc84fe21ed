"""Models by type and size or from a checkpoint, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedConfig

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.text import MlmModel
from headstart.tasks.text.model_config import build_config, restore_config
from headstart.tasks.text.models import build_model, load_checkpoint
from headstart.tasks.text.vocabulary import read_vocabulary
from tests.tasks.text.tiny import FAMILIES, MASK, TOKENS, model, tokenizer

VOCABULARY = read_vocabulary(tokenizer())
SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def config(family: str = "bert", **settings: Any) -> PreTrainedConfig:
    return build_config(model(family, **settings), VOCABULARY)


def inner(found: PreTrainedConfig) -> int:
    return int(found.hidden_dim if found.model_type == "distilbert" else found.intermediate_size)


@pytest.mark.parametrize(
    ("size", "shape"),
    [("tiny", (2, 128, 2)), ("mini", (4, 256, 4)), ("small", (4, 512, 8)), ("medium", (8, 512, 8))],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_named_sizes_are_those_of_the_miniatures(family: str, size: Any, shape: tuple[int, int, int]) -> None:
    found = build_config(MlmModel(name=family, size=size), VOCABULARY)
    assert tuple(getattr(found, key) for key in SHAPE) == shape
    assert inner(found) == shape[1] * (1.5 if family == "modernbert" else 4)


@pytest.mark.parametrize("size", ["base", None])
@pytest.mark.parametrize("family", FAMILIES)
def test_base_is_what_transformers_has(family: str, size: Any) -> None:
    found, theirs = build_config(MlmModel(name=family, size=size), VOCABULARY), AutoConfig.for_model(family)
    assert [getattr(found, key) for key in SHAPE] == [getattr(theirs, key) for key in SHAPE]
    assert inner(found) == inner(theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_vocabulary_and_special_tokens_are_the_tokenizers(family: str) -> None:
    found = config(family)
    assert found.vocab_size == len(TOKENS) and found.pad_token_id == 0
    assert {getattr(found, key, None) for key in ("bos_token_id", "cls_token_id")} <= {2, None}
    assert {getattr(found, key, None) for key in ("eos_token_id", "sep_token_id")} <= {3, None}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_fused_and_weights_follow_from_the_generator(family: str) -> None:
    torch.manual_seed(3)
    first = build_model(config(family), columns=len(TOKENS))
    torch.manual_seed(3)
    second = build_model(config(family), columns=len(TOKENS))
    assert first.config._attn_implementation == "sdpa"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_comes_back_from_its_settings(family: str) -> None:
    found = config(family)
    again = restore_config(found.to_dict())
    assert again.to_dict() == found.to_dict()
    assert again.architectures == [type(build_model(again, columns=len(TOKENS))).__name__]


def test_settings_may_be_named_as_any_type_names_them() -> None:
    assert build_config(MlmModel(name="distilbert", config={"dim": 96}), VOCABULARY).hidden_size == 96
    assert build_config(MlmModel(name="distilbert", config={"hidden_size": 96}), VOCABULARY).dim == 96


@pytest.mark.parametrize(
    ("family", "positions"), [("bert", 64), ("roberta", 63), ("distilbert", 64), ("modernbert", 64)]
)
def test_sequences_may_be_as_long_as_the_positions_and_no_longer(family: str, positions: int) -> None:
    built = build_model(config(family), columns=len(TOKENS), length=positions)
    # A token that is not padding: RoBERTa counts only those.
    tokens = torch.full((1, positions), MASK)
    assert built(input_ids=tokens).logits.shape == (1, positions, len(TOKENS))
    with pytest.raises(RecipeError, match=f"data.length={positions + 1} is more than the {positions} positions of"):
        build_model(config(family), columns=len(TOKENS), length=positions + 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "bret"}, "model: 'bret' is no type .* with a masked-LM head; did you mean 'bert'?"),
        ({"name": "gpt2"}, "model: gpt2 has no masked-LM head in transformers; take an encoder"),
        ({"name": "bart"}, "model: bart is an encoder with a decoder"),
        (
            {"name": "bert", "config": {"hiden_size": 64}},
            "config.hiden_size: BertConfig has no such setting; did you mean 'h",
        ),
        (
            {"name": "bert", "config": {"hidden_size": "wide"}},
            "model: bert: not a configuration that transformers takes",
        ),
        ({"name": "fnet", "size": "tiny"}, "model: config.num_attention_heads: FNetConfig has no such setting"),
        ({"name": "funnel", "size": "tiny"}, "model: size='tiny' has no meaning for funnel"),
        ({"name": "hub:no/such"}, "model: no/such: no configuration of a model can be had"),
    ],
)
def test_models_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_config(MlmModel.model_validate(given), VOCABULARY)


@pytest.mark.parametrize("settings", [{"num_attention_heads": 5}, {"hidden_act": "nope"}])
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="model"):
        build_model(config(**settings), columns=len(TOKENS))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"name": "bert", "pretrained": True}, "names none"), ({"name": "hub:a/b", "size": "tiny"}, "size of its own")],
)
def test_keys_that_do_not_go_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MlmModel.model_validate(given)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers saves it, with padded logits."""
    folder = tmp_path_factory.mktemp("checkpoint")
    padded = config()
    padded.vocab_size = 128
    torch.manual_seed(9)
    AutoModelForMaskedLM.from_config(padded).save_pretrained(folder)
    return folder


def test_a_checkpoint_is_loaded_with_its_weights_and_its_padding_cut_off(checkpoint: Path) -> None:
    found = load_checkpoint(str(checkpoint), columns=len(TOKENS)).eval()
    theirs = AutoModelForMaskedLM.from_pretrained(checkpoint).eval()
    tokens, rows = torch.randint(5, len(TOKENS), (2, 8)), torch.tensor([1, 9, 12])
    expected = theirs(input_ids=tokens).logits.flatten(0, 1)[rows, : len(TOKENS)]
    torch.testing.assert_close(found(input_ids=tokens, masked_rows=rows).logits, expected)


def test_a_checkpoints_architecture_takes_the_corpus_vocabulary(checkpoint: Path) -> None:
    found = build_config(MlmModel(name=f"hub:{checkpoint}", config={"num_hidden_layers": 1}), VOCABULARY)
    assert (found.num_hidden_layers, found.hidden_size, found.vocab_size) == (1, 32, len(TOKENS))


def test_a_pretrained_student_keeps_its_logits_and_takes_other_settings(checkpoint: Path) -> None:
    given = MlmModel(name=f"hub:{checkpoint}", pretrained=True, config={"hidden_dropout_prob": 0.3})
    found = build_config(given, VOCABULARY)
    assert (found.vocab_size, found.hidden_dropout_prob) == (128, 0.3)
    built = load_checkpoint(str(checkpoint), columns=len(TOKENS), config=found)
    assert built.get_submodule("bert.embeddings.dropout").p == 0.3


def test_a_checkpoint_without_a_masked_lm_head_is_refused(tmp_path: Path) -> None:
    AutoModel.from_config(config()).save_pretrained(tmp_path)
    with pytest.raises(
        HeadstartError, match=r"has no masked-LM head, or is no whole model: cls\.predictions\.\S+ is missing"
    ):
        load_checkpoint(str(tmp_path), columns=len(TOKENS))


def test_weights_that_could_execute_code_are_not_read(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    torch.save(AutoModelForMaskedLM.from_pretrained(checkpoint).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(HeadstartError, match=r"its weights cannot be had, or do not fit .*model.safetensors"):
        load_checkpoint(str(tmp_path), columns=len(TOKENS))


def test_a_checkpoint_with_fewer_logits_than_tokens_is_refused(checkpoint: Path) -> None:
    with pytest.raises(RecipeError, match="BertForMaskedLM has 128 logits, fewer than the 200 tokens"):
        load_checkpoint(str(checkpoint), columns=200)


def test_a_checkpoint_with_fewer_positions_than_tokens_is_refused(checkpoint: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.length=65 is more than the 64 positions of BertForMaskedLM"):
        load_checkpoint(str(checkpoint), columns=len(TOKENS), length=65)
