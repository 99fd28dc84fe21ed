"""Models of transformers of a few hundred weights, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    ModernBertConfig,
    ModernBertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY, TOKENS, CLASSES = 24, 10, 3

Rows = list[dict[str, Tensor]]

_SIDE = {"layers": 1, "attention_heads": 2, "ffn_dim": 8}


def model(kind: str, *, width: int = 8, seed: int = 0, dropout: float = 0.0) -> Any:
    """A model with random weights, well spread so that no two of them agree."""
    torch.manual_seed(seed)
    made = _MAKERS[kind](width, dropout)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made


def seq2seq(kind: str, *, seed: int = 0) -> Any:
    """An encoder-decoder: `bart`, `t5`, or `m2m100`, which only tells in its forward what it makes of its labels."""
    torch.manual_seed(seed)
    special: dict[str, Any] = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    if kind == "t5":
        sizes: dict[str, Any] = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        made: Any = T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, dropout_rate=0.0, **sizes, **special))
    else:
        sides = ("encoder", "decoder")
        sizes = {f"{side}_{what}": size for side in sides for what, size in _SIDE.items()} | {"d_model": 8}
        off = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "max_position_embeddings": 16}
        config, of = {
            "bart": (BartConfig, BartForConditionalGeneration),
            "m2m100": (M2M100Config, M2M100ForConditionalGeneration),
        }[kind]
        made = of(config(vocab_size=VOCABULARY, **sizes, **off, **special))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made


def rows(kind: str, count: int, *, seed: int = 1) -> Rows:
    """Sequences of unequal length, padded; each has a prompt, or masked tokens, or a class."""
    generator = torch.Generator().manual_seed(seed)
    return [_row(kind, generator) for _ in range(count)]


def _row(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    length = int(torch.randint(5, TOKENS + 1, (), generator=generator))
    tokens = torch.randint(3, VOCABULARY, (TOKENS,), generator=generator)
    real = torch.arange(TOKENS) < length
    row = {"input_ids": torch.where(real, tokens, 0), "attention_mask": real.long()}
    if kind == "classifier":
        return {**row, "labels": tokens[0] % CLASSES}
    if kind in ("bert", "modernbert"):
        masked = (torch.rand(TOKENS, generator=generator) < 0.4) & real
        masked[0] = True
        return {
            **row,
            "input_ids": torch.where(masked, 1, row["input_ids"]),
            "labels": torch.where(masked, tokens, -100),
        }
    prompt = torch.arange(TOKENS) < 2
    return {**row, "labels": torch.where(real & ~prompt, tokens, -100)}


def _bert(width: int, dropout: float, **more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=width,
        max_position_embeddings=TOKENS,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **more,
    )


def _modernbert(width: int, dropout: float) -> ModernBertForMaskedLM:
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=width,
        max_position_embeddings=TOKENS,
        mlp_dropout=dropout,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=2,
        cls_token_id=2,
        sep_token_id=2,
    )
    return ModernBertForMaskedLM(config)


def _gpt2(width: int, dropout: float) -> GPT2LMHeadModel:
    rates: dict[str, Any] = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    ends: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 2}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=TOKENS, n_embd=width, n_layer=1, n_head=2, **rates, **ends)
    )


def _llama(width: int, dropout: float) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=width,
        attention_dropout=dropout,
    )
    return LlamaForCausalLM(config)


_MAKERS = {
    "bert": lambda width, dropout: BertForMaskedLM(_bert(width, dropout)),
    "classifier": lambda width, dropout: BertForSequenceClassification(_bert(width, dropout, num_labels=CLASSES)),
    "gpt2": _gpt2,
    "llama": _llama,
    "modernbert": _modernbert,
}
