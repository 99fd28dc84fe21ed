"""Documents packed for the prediction of next tokens, and where in a sequence each of them begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headstart.tasks.text.causal.tokenizer import boundary
from headstart.tasks.text.packing import Counts, token_dtype
from headstart.tasks.text.tokenizer import for_packing
from headstart.tasks.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast


class CausalPacker:
    """Turns texts into sequences without padding: document after document, with the tokens of `boundary` between them.

    A sequence may hold the end of one document and the beginning of the next, and a long document fills several.

    Args:
        tokenizer: With a token that ends texts, or begins them.
        length: Tokens of a sequence.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int) -> None:
        vocabulary = read_vocabulary(tokenizer, needed=())
        self.length, self.dtype = length, token_dtype(vocabulary.size)
        self._boundary = boundary(tokenizer)
        self.key = f"causal-{vocabulary.fingerprint}-{self._boundary}-{length}"
        self._tokenizer = for_packing(tokenizer)
        self._special = tokenizer.all_special_ids

    def pack(
        self, texts: Sequence[str], before: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], Counts]:
        """As in `TextPacker`; the bytes of the texts are counted too."""
        filled = [text for text in texts if text.strip()]
        encoded = self._tokenizer.encode_batch_fast(filled, add_special_tokens=False)
        begin = self._boundary[-1:]  # nothing ends before the first document
        pieces = [np.array(begin, self.dtype) if before is None else before]
        pieces += [np.array([*document.ids, *self._boundary], self.dtype) for document in encoded]
        stream = np.concatenate(pieces)
        count = len(stream) // self.length
        rows = stream[: count * self.length].reshape(count, self.length)
        size = sum(len(text.encode()) for text in filled)
        counts = Counts(len(filled), len(texts) - len(filled), sum(map(len, encoded)), size)
        return rows, stream[count * self.length :], counts

    def knows(self, rows: NDArray[Any]) -> bool:
        """Whether sequences hold a token that is not special, as unknown ones are too."""
        return not bool(np.isin(rows, self._special).all())


def positions_in_documents(tokens: Tensor, first: int) -> Tensor:
    """The place of each token in its document, counted from 0; what a sequence begins with counts as a document.

    Models of transformers that know packed sequences keep apart what such positions tell apart.

    Args:
        tokens: `[batch, length]` of int64.
        first: The token that begins a document.

    Returns:
        The same shape.

    Example:
        >>> positions_in_documents(torch.tensor([[7, 8, 0, 7, 8, 9]]), first=0)
        tensor([[0, 1, 0, 1, 2, 3]])
    """
    place = torch.arange(tokens.shape[1], device=tokens.device)
    begin = torch.where(tokens == first, place, 0).cummax(1).values
    return place - begin


def hold_several_documents(tokens: Tensor, first: int) -> Tensor:
    """Which sequences have a place of a second document from which a token is predicted.

    Args:
        tokens: `[batch, length]` of int64.
        first: The token that begins a document.

    Returns:
        `[batch]` of bool.

    Example:
        >>> hold_several_documents(torch.tensor([[0, 7, 8, 9], [7, 8, 9, 0], [7, 0, 8, 9]]), first=0).tolist()
        [False, False, True]
    """
    return (tokens[:, 1:-1] == first).any(1)
