"""Tokenizers of causal language models: byte-level BPE trained on a corpus, or any with a token that ends texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.errors import DataError
from headstart.tasks.text.tokenizer import read_fast
from headstart.tasks.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"  # of a trained tokenizer; as GPT-2's, it ends a document and begins the next


def read_causal_tokenizer(place: str) -> PreTrainedTokenizerFast:
    """Read a tokenizer from a folder or from the Hub.

    Raises:
        DataError: It cannot be had, or has no token that ends texts.
    """
    tokenizer = read_fast(place, trained="bpe")
    origin = f"data.tokenizer: {place!r}"
    read_vocabulary(tokenizer, origin, needed=())
    boundary(tokenizer, origin)
    return tokenizer


def boundary(tokenizer: PreTrainedTokenizerFast, origin: str = "the tokenizer") -> list[int]:
    """The tokens between two documents; with the last of them the next document begins.

    One where the same token ends a text and begins one, or only one of the two is known; else that of the end, then
    that of the beginning.

    Raises:
        DataError: It knows neither.
    """
    known = [token for token in (tokenizer.eos_token_id, tokenizer.bos_token_id) if token is not None]
    if not known:
        raise DataError(
            f"{origin} has no token that ends texts (eos_token) or begins them (bos_token), so documents could not be "
            "told apart; take a causal language model's, or train one on the corpus with data.tokenizer: bpe"
        )
    return list(dict.fromkeys(known))


def train_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE on texts, as GPT-2's: any text can be written in it, and the same texts give the same one.

    Args:
        texts: The documents.
        vocab_size: Tokens at most, of which 256 are the bytes; fewer where the texts do not give that many.

    Returns:
        A tokenizer with `<|endoftext|>` as its first token, then the bytes.

    Example:
        >>> trained = train_bpe(["low lower lowest"] * 3, 320)
        >>> trained.encode("low lowest").tokens, trained.token_to_id("<|endoftext|>")
        (['low', 'Ġlowest'], 0)
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap_bpe(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give a trained tokenizer the form that transformers uses."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END)
