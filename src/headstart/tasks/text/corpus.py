"""The text of a pretraining: found, tokenised and packed once, kept in the cache."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from headstart.errors import DataError
from headstart.files import write_atomically
from headstart.tasks.order import EpochOrder
from headstart.tasks.places import cache_folder
from headstart.tasks.text.causal.packing import CausalPacker
from headstart.tasks.text.causal.tokenizer import read_causal_tokenizer, train_bpe, wrap_bpe
from headstart.tasks.text.config import ClmData, TextData
from headstart.tasks.text.documents import Documents, choose_documents
from headstart.tasks.text.packing import PackedSequences, Packer, Sequences, TextPacker, write_packed
from headstart.tasks.text.sources import find_splits
from headstart.tasks.text.streaming import StreamedSequences, StreamOrder
from headstart.tasks.text.tokenizer import read_tokenizer, train_wordpiece, wrap
from headstart.tasks.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

# Part of every key: raise it when training or packing changes, so that no older file is taken for a new one.
CACHE_VERSION = 1
# A tokenizer is trained on documents drawn from the corpus until they hold this many characters: about 20 seconds.
TOKENIZER_CHARACTERS = 20_000_000

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Packed text to train on and to judge by.

    Attributes:
        tokenizer: What made tokens of it.
        train: Sequences to train on.
        held_out: Sequences to judge by.
        origins: Where both came from, for reports.
    """

    tokenizer: PreTrainedTokenizerFast
    train: Sequences
    held_out: Sequences
    origins: tuple[str, str]

    def describe(self) -> dict[str, Any]:
        """What the text was and what was made of it; JSON."""
        return {
            "train": {"origin": self.origins[0], **self.train.describe()},
            "held_out": {"origin": self.origins[1], **self.held_out.describe()},
            "vocabulary": read_vocabulary(self.tokenizer, needed=()).describe(),
        }

    def order(self, seed: int) -> EpochOrder | StreamOrder:
        """In which order the training sequences are seen: shuffled anew each epoch, or as a stream gives them."""
        return StreamOrder() if isinstance(self.train, StreamedSequences) else EpochOrder(len(self.train), seed=seed)

    def save_tokenizer(self, folder: str | os.PathLike[str]) -> None:
        """Write the tokenizer as transformers' `AutoTokenizer` reads it."""
        self.tokenizer.save_pretrained(str(folder))


def load_corpus(data: TextData, *, seed: int = 0) -> Corpus:
    """Load a corpus: found by name, tokenised and packed at the first time, read from the cache from then on.

    `data.name` is looked up as a path (of a file or a folder), in `$HEADSTART_DATA`, in the cache, then on the Hugging
    Face Hub. A trained tokenizer and the packed text lie in the cache under keys of the source files (path, size, time)
    and of all that they depend on else; two processes that want the same one at once make it once.

    Args:
        data: What the recipe says.
        seed: Of the order of a stream; other corpora do not depend on it.

    Raises:
        DataError: The text or the tokenizer cannot be had or does not fit, or there is too little of it.
    """
    train, held_out = choose_documents(data, find_splits(data))
    tokenizer = _tokenizer(data, train)
    packer: TextPacker = (CausalPacker if isinstance(data, ClmData) else Packer)(tokenizer, data.length)
    return Corpus(
        tokenizer,
        _streamed(train, packer, seed) if data.streaming else _packed(train, packer),
        _packed(held_out, packer, most=data.evaluate_sequences if data.streaming else None),
        (train.origin, held_out.origin),
    )


def _tokenizer(data: TextData, train: Documents) -> PreTrainedTokenizerFast:
    """Read the tokenizer, or train it on the documents to train on."""
    if isinstance(data, ClmData):
        if data.tokenizer != "bpe":
            return read_causal_tokenizer(data.tokenizer)
        key = _key("bpe", train.key, data.vocab_size, TOKENIZER_CHARACTERS)
        return wrap_bpe(_trained(train, key, lambda texts: train_bpe(texts, data.vocab_size)))
    if data.tokenizer != "wordpiece":
        return read_tokenizer(data.tokenizer)
    key = _key(train.key, data.vocab_size, data.lowercase, TOKENIZER_CHARACTERS)
    return wrap(_trained(train, key, lambda texts: train_wordpiece(texts, data.vocab_size, lowercase=data.lowercase)))


def _trained(train: Documents, key: str, train_on: Callable[[Sequence[str]], Tokenizer]) -> Tokenizer:
    """A tokenizer trained on these documents, unless that has been done."""
    from tokenizers import Tokenizer

    def make(path: Path) -> None:
        texts = train.sample(TOKENIZER_CHARACTERS)
        if not any(text.strip() for text in texts):
            raise DataError(
                f"{train.origin}: all {len(texts)} documents to train a tokenizer on are empty; give some with text"
            )
        write_atomically(path, train_on(texts).to_str().encode())

    return _cached(cache_folder() / "tokenizers" / f"{key}.json", lambda path: Tokenizer.from_file(str(path)), make)


def _packed(documents: Documents, packer: TextPacker, most: int | None = None) -> PackedSequences:
    """Pack the documents, unless that has been done."""
    path = cache_folder() / "packed" / f"{_key(documents.key, packer.key, most)}.arrow"

    def make(path: Path) -> None:
        write_packed(path, documents.batches("tokenising"), packer, documents.origin, most=most)

    return _cached(path, PackedSequences, make)


def _streamed(documents: Documents, packer: TextPacker, seed: int) -> StreamedSequences:
    bookmarks = cache_folder() / "streams" / _key(documents.key, packer.key, seed)
    return StreamedSequences(documents.source, packer, seed=seed, bookmarks=bookmarks)


def _cached(path: Path, read: Callable[[Path], T], make: Callable[[Path], None]) -> T:
    """Read a file of the cache; where there is none, or it is broken, one of the processes that want it makes it."""
    if (found := _try(read, path)) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if (found := _try(read, path)) is None:
                make(path)
                found = read(path)
        return found
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}); make room, or set HEADSTART_CACHE to a folder where there is"
        ) from None


def _try(read: Callable[[Path], T], path: Path) -> T | None:
    if not path.is_file():
        return None
    try:
        return read(path)
    except Exception as error:  # `tokenizers` raises nothing more specific
        logger.warning("%s: cannot be used (%s); making it again", path, error)
        return None


def _key(*parts: object) -> str:
    return hashlib.sha256(repr((CACHE_VERSION, *parts)).encode()).hexdigest()[:24]
