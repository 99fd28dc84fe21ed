"""A vocabulary of bytes and letters, documents of random tokens, and causal models that fit them."""

from __future__ import annotations

from typing import Any, cast

import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from headstart.tasks.text import ClmData, ClmModel, Corpus
from headstart.tasks.text.causal.tokenizer import END, wrap_bpe

TOKENS = (END, *(chr(ord("a") + number) for number in range(26)), *map(str, range(10)))
LENGTH = 16
FAMILIES = ("gpt2", "llama", "qwen3")
COUNTS = {"documents": 12, "tokens": 400, "bytes": 1000}


def tokenizer(tokens: tuple[str, ...] = TOKENS) -> PreTrainedTokenizerFast:
    """Of single letters and digits."""
    trained = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    trained.add_special_tokens([END])
    return wrap_bpe(trained)


class Sequences:
    """Sequences of random letters, most with a document's end somewhere inside."""

    def __init__(self, count: int, seed: int, length: int = LENGTH) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(1, len(TOKENS), (count, length), generator=generator)
        self.tokens.scatter_(1, torch.randint(0, length, (count, 1), generator=generator), 0)
        self.tokens[0] = torch.arange(1, length + 1)  # one document, from its middle on
        self.tokens[1, -1] = 0

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.tokens)

    def describe(self) -> dict[str, int]:
        """How many there are, and of what."""
        return {"sequences": len(self), **COUNTS}

    def rows(self, indices: Tensor) -> Tensor:
        """The tokens of some sequences."""
        return self.tokens[indices]


def corpus(train: int = 24, held_out: int = 10, **settings: Any) -> Corpus:
    """Text to train on and to judge by, at hand."""
    parts = [cast(Any, Sequences(count, seed)) for seed, count in enumerate((train, held_out))]
    return Corpus(settings.get("tokenizer") or tokenizer(), parts[0], parts[1], origins=("here", "there"))


def shape(family: str = "llama") -> dict[str, Any]:
    """Settings of two layers, 32 wide, without dropout."""
    plain = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 64}
    if family == "gpt2":
        return {**plain, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    more: dict[str, Any] = {"head_dim": 16} if family == "qwen3" else {}
    return {**plain, "num_key_value_heads": 1, "intermediate_size": 48, **more}


def model(family: str = "llama", **settings: Any) -> ClmModel:
    """Two layers, 32 wide."""
    return ClmModel(name=family, config={**shape(family), **settings})


def data(**settings: Any) -> ClmData:
    """What goes with the corpus."""
    return ClmData(name="made up", **{"length": LENGTH, **settings})
