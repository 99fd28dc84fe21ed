"""Dynamic masking, as a pure function of (seed, epoch, sample)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.tasks.random import random_below
from headstart.tasks.text.vocabulary import Vocabulary

IGNORED = -100  # the label that torch's cross-entropy, transformers and the Distiller leave out

# Positions take the streams from 0 on, for the choice of positions; further numbers of a position lie this much higher.
_TREATMENT, _REPLACEMENT = 1 << 32, 2 << 32


@dataclass(frozen=True)
class Masked:
    """Sequences to fill in.

    Attributes:
        input_ids: What the model reads, `[batch, length]` of int64.
        masked_rows: The positions to predict, as indices into the flattened `[batch * length]`: `[batch * k]` of int64,
            in increasing order.
        labels: The tokens that stood there, `[batch * k]` of int64; -100 where a sequence has fewer tokens to predict.
    """

    input_ids: Tensor
    masked_rows: Tensor
    labels: Tensor


class Masking:
    """Chooses tokens of each sequence to predict, and hides them as BERT does.

    Of the chosen tokens 80 % become the mask token, 10 % another token drawn from the whole vocabulary, 10 % stay
    (Devlin et al., arXiv 1810.04805). Special tokens are neither chosen nor drawn. Each sequence has the same number of
    chosen tokens, as in BERT's own code, so that shapes never change and all micro-batches weigh the same.

    Args:
        vocabulary: Tells the mask token and the special ones.
        fraction: Of a sequence's tokens that is chosen, rounded to a whole number, at least 1.
        device: Where sequences are masked. The result does not depend on it.

    Example:
        >>> vocabulary = Vocabulary(9, {"mask": 3, "pad": 0}, ordinary=range(4, 9), content={})
        >>> masked = Masking(vocabulary, 0.3)(torch.tensor([[1, 4, 5, 6, 7, 2]]), torch.tensor([0]), seed=0, epoch=0)
        >>> masked.masked_rows.shape, masked.labels.shape
        (torch.Size([2]), torch.Size([2]))
    """

    def __init__(self, vocabulary: Vocabulary, fraction: float, *, device: torch.device | str = "cpu") -> None:
        self.fraction = fraction
        self._mask = vocabulary.special["mask"]
        self._ordinary = torch.tensor(vocabulary.ordinary, device=device)
        self._special = torch.ones(vocabulary.size, dtype=torch.bool, device=device)
        self._special[self._ordinary] = False

    def chosen(self, length: int) -> int:
        """How many tokens of a sequence are chosen."""
        return max(1, round(self.fraction * length))

    def __call__(self, tokens: Tensor, samples: Tensor, *, seed: int, epoch: int) -> Masked:
        """Mask a batch.

        Args:
            tokens: `[batch, length]` of int64, on this masking's device.
            samples: Indices of the sequences in their set, `[batch]` of int64, there too.
            seed: The run's seed.
            epoch: Counted from 0.
        """
        batch, length = tokens.shape
        samples = samples.view(-1, 1)
        special = self._special[tokens]
        positions = self._positions(special, samples, seed=seed, epoch=epoch)
        original, left_alone = tokens.gather(1, positions), special.gather(1, positions)

        def below(limit: int, stream: int) -> Tensor:
            return random_below(limit, samples, seed=seed, epoch=epoch, stream=positions + stream)

        treatment = below(10, _TREATMENT)
        drawn = self._ordinary[below(len(self._ordinary), _REPLACEMENT)]
        shown = torch.where(treatment == 8, drawn, torch.where(treatment == 9, original, self._mask))
        input_ids = tokens.scatter(1, positions, torch.where(left_alone, original, shown))
        rows = positions + length * torch.arange(batch, device=tokens.device).view(-1, 1)
        return Masked(input_ids, rows.flatten(), original.masked_fill(left_alone, IGNORED).flatten())

    def _positions(self, special: Tensor, samples: Tensor, *, seed: int, epoch: int) -> Tensor:
        """A uniform subset of each sequence's ordinary tokens, `[batch, k]` in increasing order."""
        length = special.shape[1]
        position = torch.arange(length, device=special.device)
        keys = random_below(1 << 31, samples, seed=seed, epoch=epoch, stream=position)
        # The position makes keys unique, so that no device has to break a tie in its own way.
        keys = (keys + (special.long() << 31)) * length + position
        return keys.topk(self.chosen(length), largest=False).indices.sort(1).values
