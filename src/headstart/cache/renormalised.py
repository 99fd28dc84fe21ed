"""Whether somebody has divided the probabilities of listed classes by their sum, so that nothing is left to others."""

from __future__ import annotations

import torch
from torch import Tensor

_WHOLE = 1e-5  # so near to 1 are sums that were made so
# A sum of 1 is right where the last class listed is hardly possible; it is suspicious where that one is not, as all
# classes after it together would have to be ten times less probable.
_POSSIBLE = 1e-4
# A sequence counts as divided where it has so many places that could tell, and so large a share of them sums to 1.
_PLACES, _SHARE = 4, 0.9


class Sums:
    """Counts places whose probabilities sum to 1 though more classes must have some.

    Args:
        classes: Of the vocabulary. A place that lists all of them sums to 1 as it should.

    Attributes:
        whole: How many such places there are.
        told: Of how many that could tell.
        sequences: In how many sequences nearly all are like that.
        first: The first of these sequences, or the first with such a place.

    Example:
        >>> sums = Sums(classes=9)
        >>> sums.add("a.jsonl, record 0", torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.6, 0.3]]).log())
        >>> sums.whole, sums.told, sums.first, sums.refused
        (2, 3, 'a.jsonl, record 0', False)
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self.whole = self.told = self.sequences = 0
        self.first = ""

    def add(self, where: str, logprobs: Tensor) -> None:
        """Reckon with a sequence: `[places, k]`, filled up with -inf where a place lists fewer classes."""
        listed = logprobs.isfinite()
        last = logprobs.masked_fill(~listed, torch.inf).amin(-1)
        tells = (last.exp() > _POSSIBLE) & (listed.sum(-1) < self._classes)
        whole = tells & ((logprobs.double().exp().sum(-1) - 1.0).abs() < _WHOLE)
        told, count = int(tells.sum()), int(whole.sum())
        divided = _nearly_all(count, told)
        if (divided and not self.sequences) or (count and not self.first):
            self.first = where
        self.whole, self.told, self.sequences = self.whole + count, self.told + told, self.sequences + divided

    @property
    def refused(self) -> bool:
        """Whether nearly all of a sequence, or of all of them, is like that."""
        return self.sequences > 0 or _nearly_all(self.whole, self.told)


def _nearly_all(whole: int, told: int) -> bool:
    return whole >= _PLACES and whole >= _SHARE * told
