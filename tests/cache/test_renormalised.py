"""Probabilities that somebody has made sum to 1, place by place and sequence by sequence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headstart.cache.renormalised import Sums

CLASSES, K = 50, 5


def top(scale: float, *, places: int = 40, k: int = K, seed: int = 0) -> Tensor:
    logits = scale * torch.randn(places, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.log_softmax(-1).topk(k).values


def divided(logprobs: Tensor) -> Tensor:
    return logprobs.log_softmax(-1).float()


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 50.0])
def test_a_softmax_of_more_classes_is_none(scale: float) -> None:
    """Not even that of a teacher so sure that what it lists is all that counts."""
    sums = Sums(CLASSES)
    for seed in range(5):
        sums.add(str(seed), top(scale, seed=seed).float())
    assert (sums.whole, sums.sequences, sums.refused) == (0, 0, False)


def test_all_classes_sum_to_one_as_they_should() -> None:
    sums = Sums(CLASSES)
    sums.add("all", top(1.0, k=CLASSES))
    assert (sums.whole, sums.told, sums.refused) == (0, 0, False)


def test_one_honest_place_does_not_hide_the_others_nor_one_sequence_the_rest() -> None:
    sums, mixed = Sums(CLASSES), divided(top(1.0))
    mixed[7] = top(1.0)[7]
    sums.add("honest", top(1.0, seed=1))
    sums.add("mixed", mixed)
    assert (sums.whole, sums.told, sums.sequences, sums.first, sums.refused) == (39, 80, 1, "mixed", True)


def test_single_places_are_counted_and_not_refused() -> None:
    sums, some = Sums(CLASSES), top(1.0).float()
    some[3:6] = divided(some[3:6])
    sums.add("some", some)
    assert (sums.whole, sums.sequences, sums.first, sums.refused) == (3, 0, "some", False)


def test_sequences_with_few_places_that_tell_are_judged_together() -> None:
    sums = Sums(CLASSES)
    for seed in range(3):
        sums.add(str(seed), divided(top(1.0, places=2, seed=seed)))
    assert sums.sequences == 0 and sums.refused


def test_places_may_list_different_numbers_of_classes() -> None:
    sums, filled = Sums(CLASSES), divided(top(1.0))
    filled[::2, 3:] = -torch.inf
    filled[::2, :3] = divided(filled[::2, :3])
    sums.add("filled", filled)
    assert (sums.whole, sums.told) == (40, 40)
