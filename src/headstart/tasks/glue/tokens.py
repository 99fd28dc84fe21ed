"""Texts as tokens: made once for each tokenizer and task, kept in the cache."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from headstart.files import write_atomically
from headstart.tasks.places import cache_folder

if TYPE_CHECKING:
    from headstart.tasks.glue.checkpoint import Checkpoint
    from headstart.tasks.glue.data import TextSet

logger = logging.getLogger(__name__)

_CACHE_VERSION = 1  # part of every key: raise it when tokens are made otherwise
_TEXTS_AT_ONCE = 10_000  # bounds the memory that the tokenizer's lists take


@dataclass(frozen=True, eq=False)
class TokenSet:
    """One split as tokens, in flat arrays: batches are cut out of them without a loop over samples.

    Attributes:
        ids: All samples' tokens one after the other, `[tokens]` of int32.
        types: 0 for tokens of the first text, 1 of the second, `[tokens]` of int8; None where the model takes none.
        lengths: Tokens of each sample, `[samples]` of int64.
        labels: `[samples]`; int64 classes, or float32 scores.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int8] | None
    lengths: NDArray[np.int64]
    labels: NDArray[Any]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each sample begins, `[samples]`."""
        starts: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths
        return starts


def tokenize(checkpoint: Checkpoint, texts: TextSet) -> TokenSet:
    """Turn a split into tokens, each sample cut to the checkpoint's length; from the cache where it is there.

    The cache's key is the content: the same texts with the same tokenizer are found again, whatever file, model or run
    folder they come from.
    """
    path = cache_folder() / "glue" / f"{_key(checkpoint, texts)}.safetensors"
    if (arrays := _read(path)) is None:
        arrays = _tokens(checkpoint, texts)
        _keep(path, arrays)
    return TokenSet(arrays["ids"], arrays.get("types"), arrays["lengths"], texts.labels)


def _key(checkpoint: Checkpoint, texts: TextSet) -> str:
    key = hashlib.sha256(
        repr((_CACHE_VERSION, checkpoint.tokenizer_key, checkpoint.max_length, checkpoint.types)).encode()
    )
    for column in texts.texts:
        # Lengths first, so that no other texts give the same bytes.
        key.update(np.array([len(column), *map(len, column)], dtype=np.int64).tobytes())
        key.update("".join(column).encode("utf-8", "surrogatepass"))
    return key.hexdigest()[:24]


def _tokens(checkpoint: Checkpoint, texts: TextSet) -> dict[str, NDArray[Any]]:
    parts: dict[str, list[NDArray[Any]]] = {"ids": [], "types": [], "lengths": []}
    for begin in range(0, len(texts.labels), _TEXTS_AT_ONCE):
        encoded = checkpoint.tokenizer(
            *[column[begin : begin + _TEXTS_AT_ONCE] for column in texts.texts],
            truncation=True,
            max_length=checkpoint.max_length,
            return_token_type_ids=checkpoint.types,
            return_attention_mask=False,
        )
        parts["ids"].append(np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32))
        parts["lengths"].append(np.array([len(ids) for ids in encoded["input_ids"]], np.int64))
        if checkpoint.types:
            parts["types"].append(np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.int8))
    return {name: np.concatenate(pieces) for name, pieces in parts.items() if pieces}


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.is_file():
        return None
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        logger.warning("%s: cannot be used (%s); making the tokens again", path, error)
        return None


def _keep(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Keep tokens; a cache that cannot be written (full, read-only) costs time at the next start, no more."""
    try:
        write_atomically(path, save(arrays))
    except OSError as error:
        logger.warning("%s: cannot be written (%s); the tokens will be made again next time", path, error)
