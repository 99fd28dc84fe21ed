"""A tokenizer of single letters and digits, for text whose tokens a test can read off."""

from __future__ import annotations

from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from tests.tasks.text.tiny import TOKENS, tokenizer

NUMBER = {token: number for number, token in enumerate(TOKENS)}


def word_tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """The tiny vocabulary, and more, with words apart by spaces."""
    made = tokenizer((*TOKENS, *more))
    made.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    return made


def words(text: str) -> list[int]:
    """The tokens of a text of known words."""
    return [NUMBER[word] for word in text.split()]
