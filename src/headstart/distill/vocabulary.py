"""How many logits of a language model stand for tokens: the one rule for students, teachers and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PADDED_TO = 8  # of which sizes of padded vocabularies are multiples
_PADDING = 0.02  # of a vocabulary, at most


def count_tokens(tokenizer: Any) -> int | None:
    """The columns of logits that a tokenizer's tokens need: further ones pad the vocabulary.

    That is one more than the highest number of a token. A tokenizer may leave numbers out, so that it has fewer tokens
    than columns, and its length is not enough.

    Args:
        tokenizer: Anything with a `get_vocab()` that maps tokens to their numbers, as those of transformers.

    Returns:
        None for anything else.

    Example:
        >>> class Tokenizer:
        ...     def get_vocab(self):
        ...         return {"a": 0, "b": 1, "<end>": 7}
        >>> count_tokens(Tokenizer()), count_tokens("a processor of images")
        (8, None)
    """
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
    return 1 + max(vocabulary.values()) if isinstance(vocabulary, Mapping) and vocabulary else None


def inside(model: Any) -> Any:
    """The model inside `torch.compile` and PEFT.

    Example:
        >>> from torch import nn
        >>> inside(nn.Linear(2, 3))
        Linear(in_features=2, out_features=3, bias=True)
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile's
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's


def tokens_of(model: Any) -> int | None:
    """How many tokens a language model of transformers has logits for; None where its logits are no tokens'.

    Example:
        >>> from torch import nn
        >>> tokens_of(nn.Linear(2, 3)) is None
        True
    """
    model = inside(model)
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "get_text_config") or not hasattr(model, "get_output_embeddings"):
        return None
    if model.get_output_embeddings() is None:
        return None
    count = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    return count if isinstance(count, int) else None


def may_be_padded(one: int, other: int, *, at_least: int = 0) -> bool:
    """Whether two sizes of vocabularies may be those of one tokenizer, padded differently.

    The larger one is a multiple of 8, for the sake of fast kernels, and larger by 2 % at most: so those of Qwen (151936
    and 152064), Pythia (50304 to 50688) and GPT-2 (50257 and 50304) are; those of Llama 2 and of Mistral (32000 and
    32768), which are no family, are not.

    Args:
        one: A size.
        other: Another.
        at_least: What it may be larger by in any case, where more is known of both than their sizes.

    Example:
        >>> may_be_padded(151936, 152064), may_be_padded(32768, 32000)
        (True, False)
    """
    small, large = sorted((one, other))
    return large % _PADDED_TO == 0 and large - small <= max(at_least, _PADDING * large)
