"""Tokenizers: read from a folder or the Hub, or WordPiece trained on a corpus."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from headstart.errors import DataError
from headstart.tasks.hub import from_hub, one_line
from headstart.tasks.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Of the characters in the corpus, the most frequent that make up this share are in the vocabulary; a word with another
# one is unknown as a whole.
_COVERAGE = 0.9999


def read_tokenizer(place: str) -> PreTrainedTokenizerFast:
    """Read a tokenizer of masked-language modelling from a folder or from the Hub.

    Raises:
        DataError: It cannot be had, or is not fit for masked-language modelling.
    """
    tokenizer = read_fast(place, trained="wordpiece")
    read_vocabulary(tokenizer, f"data.tokenizer: {place!r}")
    return tokenizer


def read_fast(place: str, *, trained: str) -> PreTrainedTokenizerFast:
    """Read any tokenizer of the `tokenizers` library from a folder or from the Hub.

    Args:
        place: Which.
        trained: What `data.tokenizer` would be for one trained on the corpus, for messages.

    Raises:
        DataError: It cannot be had.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        with from_hub(place):
            tokenizer = AutoTokenizer.from_pretrained(place)
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise DataError(
            f"data.tokenizer: {place!r} cannot be read as a tokenizer, as a folder or from the Hub "
            f"({one_line(error)}); give another, or `{trained}` to train one on the corpus"
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(
            f"data.tokenizer: {place!r} is a {type(tokenizer).__name__}, not one of the `tokenizers` library; "
            "give one with a tokenizer.json"
        )
    return tokenizer


def train_wordpiece(texts: Sequence[str], vocab_size: int, *, lowercase: bool = True) -> Tokenizer:
    """Train WordPiece on texts, as BERT's: the same texts give the same vocabulary with the same numbers.

    Args:
        texts: The documents.
        vocab_size: Tokens at most, special ones included; fewer where the texts do not give that many.
        lowercase: Fold case and strip accents.

    Returns:
        A tokenizer with `[PAD] [UNK] [CLS] [SEP] [MASK]` as its first tokens, in this order.

    Example:
        >>> trained = train_wordpiece(["Low lower lowest", "new newer newest"], 64)
        >>> trained.encode("The lowest").tokens
        ['[CLS]', '[UNK]', 'lowest', '[SEP]']
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer = _prepare(Tokenizer(models.WordPiece(unk_token="[UNK]")), lowercase)
    alphabet = _alphabet((tokenizer.normalizer.normalize_str(text) for text in texts), (vocab_size - len(SPECIAL)) // 2)
    inside = [f"##{character}" for character in alphabet if not _is_punctuation(character)]
    # The trainer numbers the pieces it finds in the order of a hash table, other in each process, and ties between
    # merges follow the numbers. So all single characters get theirs beforehand, by being passed as special.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *alphabet, *inside],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    trained = _prepare(Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")), lowercase)
    trained.add_special_tokens(list(SPECIAL))
    return trained


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give a trained tokenizer the form that transformers uses."""
    from transformers import PreTrainedTokenizerFast

    pad, unknown, cls, sep, mask = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, cls_token=cls, sep_token=sep, mask_token=mask
    )


def for_packing(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Copy what turns text into tokens: whole, without padding, with no text taken for a special token."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    plain.encode_special_tokens = True
    return plain


def _prepare(tokenizer: Tokenizer, lowercase: bool) -> Tokenizer:
    """Give a WordPiece model what BERT has around it."""
    from tokenizers import decoders, normalizers, pre_tokenizers, processors

    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", SPECIAL.index("[SEP]")), ("[CLS]", SPECIAL.index("[CLS]"))
    )
    return tokenizer


def _alphabet(texts: Iterable[str], most: int) -> list[str]:
    """Return the most frequent characters, those of equal number by their code, in the order of their codes."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    for character in [character for character in counts if character.isspace()]:
        del counts[character]
    alphabet: list[str] = []
    covered, total = 0, sum(counts.values())
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(alphabet) == most or covered >= _COVERAGE * total:
            break
        alphabet.append(character)
        covered += count
    return sorted(alphabet)


def _is_punctuation(character: str) -> bool:
    """Whether BERT's pre-tokenizer makes a word of it, so that no word holds it further inside."""
    return unicodedata.category(character).startswith("P") or (character.isascii() and not character.isalnum())
