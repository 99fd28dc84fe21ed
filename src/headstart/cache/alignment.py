"""Whether log-probabilities are of the next token, as they are read, or rather of a token one place off.

Nothing in a file shows that somebody put its entries one place too late or too early: the tokens are right, the numbers
are log-probabilities, and a student that is taught by them learns the wrong thing in silence. But a teacher that knows
anything makes the text's own next token likelier than the token before or after it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SHIFTS = (-1, 0, 1)  # of which token, counted from the next one
# Below so many places nothing is said; above, a reading has to be likelier by so many nats a place and by so many
# standard errors. What a teacher that knows nothing of order (the words' frequencies, say) gives stays far below both.
_PLACES, _NATS, _ERRORS = 100, 0.25, 8.0
# What is left to classes that are not listed, at least: else one token outside of a complete list outweighs all others.
_LEFT = 1e-4
# An untrained model whose embedding is also its head gives its own input the largest logit, nearly everywhere or with a
# confidence that is far below how often that comes true. No trained teacher's next token is like that.
_ALWAYS, _TIMES = 0.99, 3.0


class Alignment:
    """Compares how likely targets make the text's next token, the token before it, and the token after it.

    Args:
        classes: Of the vocabulary.

    Example:
        >>> tokens, alignment = torch.arange(400) % 7, Alignment(classes=9)
        >>> late = tokens[:-1].clone()  # of the token at each place, where that after it is wanted
        >>> late[::2] = 8  # half of the time it is wrong
        >>> alignment.add(tokens, late.unsqueeze(-1), torch.full((399, 1), -0.5))
        >>> "every entry seems to stand one place too late" in alignment.complaint()
        True
    """

    def __init__(self, classes: int) -> None:
        self._classes, self._places, self._confidence = classes, 0, 0.0
        self._sums, self._squares, self._hits = torch.zeros(3, 3, dtype=torch.float64)

    def add(self, tokens: Tensor, ids: Tensor, logprobs: Tensor) -> None:
        """Reckon with a sequence.

        Args:
            tokens: `[length]` of int64.
            ids: For each place but the last the classes, the most probable first, `[length - 1, k]` of int64.
            logprobs: Theirs.
        """
        count = len(tokens) - 2  # the places of which both neighbours are there
        if count < 1:
            return
        ids, logprobs = ids[:count], logprobs[:count].double()
        asked = torch.stack([tokens[1 + shift : 1 + shift + count] for shift in _SHIFTS])
        scores = _log_likelihood(asked, ids, logprobs, self._classes)
        self._places += count
        self._sums += scores.sum(1)
        self._squares += (scores - scores[1]).square().sum(1)
        self._hits += (asked == ids[:, 0]).sum(1)
        self._confidence += float(logprobs[:, 0].exp().sum())

    def complaint(self) -> str | None:
        """Says which way the targets seem to be off; None where nothing speaks for it, or there are too few places."""
        gains = [self._gain(index) for index in (0, 2)]
        index = 0 if gains[0] >= gains[1] else 2
        if not max(gains) or (index == 0 and self._copies()):
            return None
        token, off, there = (
            ("token at a place", "late", "t - 1") if index == 0 else ("token after the next", "early", "t + 1")
        )
        return (
            f"over {self._places} places the targets make the {token} {math.exp(max(gains)):.3g} times likelier than "
            f"the {'one after it' if index == 0 else 'next one'}, of which they should be: every entry seems to stand "
            f"one place too {off}. Put the entry of place t at place {there}, or look whether the server was given the "
            "sequences as they are (a token put before them moves every entry)"
        )

    def _gain(self, index: int) -> float:
        """By how many nats a place a reading is likelier than the one that is taken; 0 where that is not sure."""
        if self._places < _PLACES:
            return 0.0
        gain = float(self._sums[index] - self._sums[1]) / self._places
        variance = max(float(self._squares[index]) / self._places - gain**2, 0.0)
        return gain if gain > max(_NATS, _ERRORS * math.sqrt(variance / self._places)) else 0.0

    def _copies(self) -> bool:
        hits, confidence = float(self._hits[0]) / self._places, self._confidence / self._places
        return hits > _ALWAYS or hits > _TIMES * confidence + 0.05


def _log_likelihood(asked: Tensor, ids: Tensor, logprobs: Tensor, classes: int) -> Tensor:
    """Of tokens `[readings, places]`; those that are not listed share alike what is left."""
    left = (1.0 - logprobs.exp().sum(-1)).clamp(min=_LEFT) / max(classes - ids.shape[1], 1)
    listed = asked.unsqueeze(-1) == ids
    return torch.where(listed.any(-1), (listed * logprobs).sum(-1), left.log())
