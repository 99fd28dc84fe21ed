"""A vocabulary of about a hundred tokens, text of random tokens, and models that fit them."""

from __future__ import annotations

import string
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from headstart.tasks.text import Corpus, MlmData, MlmModel
from headstart.tasks.text.tokenizer import wrap

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENS = (*SPECIAL, *string.ascii_letters, *(f"##{letter}" for letter in string.ascii_lowercase), *string.digits, "the")
PAD, UNK, CLS, SEP, MASK = range(5)
LENGTH = 32
FAMILIES = ("bert", "roberta", "distilbert", "modernbert")


def tokenizer(tokens: tuple[str, ...] = TOKENS) -> PreTrainedTokenizerFast:
    """WordPiece of these tokens, with all that BERT's tokenizer has around it."""
    trained = Tokenizer(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    trained.add_special_tokens(list(SPECIAL))
    return wrap(trained)


class Sequences:
    """Packed sequences of random letters, with a document's end somewhere in each."""

    def __init__(self, count: int, seed: int, length: int = LENGTH) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(len(SPECIAL), len(TOKENS), (count, length), generator=generator)
        self.tokens[:, 0], self.tokens[:, -1] = CLS, SEP
        ends = torch.randint(3, length - 3, (count, 1), generator=generator)
        self.tokens.scatter_(1, ends, SEP)

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.tokens)

    def describe(self) -> dict[str, int]:
        """How many there are."""
        return {"sequences": len(self)}

    def rows(self, indices: Tensor) -> Tensor:
        """The tokens of some sequences."""
        return self.tokens[indices]


def corpus(train: int = 40, held_out: int = 30, **settings: Any) -> Corpus:
    """Text to train on and to judge by, at hand."""
    parts = [cast(Any, Sequences(count, seed)) for seed, count in enumerate((train, held_out))]
    return Corpus(settings.get("tokenizer") or tokenizer(), parts[0], parts[1], origins=("here", "there"))


def model(family: str = "bert", **settings: Any) -> MlmModel:
    """Two layers, 32 wide, without dropout."""
    inner = "hidden_dim" if family == "distilbert" else "intermediate_size"
    plain: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, inner: 48}
    plain["max_position_embeddings"] = 64
    dropout = {
        "distilbert": {"dropout": 0.0, "attention_dropout": 0.0},
        "modernbert": {},
    }.get(family, {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    return MlmModel(name=family, config={**plain, **dropout, **settings})


def data(**settings: Any) -> MlmData:
    """What goes with the corpus."""
    return MlmData(name="made up", **{"length": LENGTH, **settings})
