"""How many logits of a language model stand for tokens: the one rule for students, teachers and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
