"""Masking: equal to a slow reference, uniform, 80/10/10, and a function of (seed, epoch, sample) alone."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from headstart.tasks.text.masking import IGNORED, Masked, Masking
from headstart.tasks.text.vocabulary import read_vocabulary
from tests.tasks.reference import reference_below
from tests.tasks.text.tiny import CLS, MASK, SEP, SPECIAL, TOKENS, Sequences, tokenizer

VOCABULARY = read_vocabulary(tokenizer())
SAMPLES = torch.arange(4000)
TEXT = Sequences(4000, seed=7).tokens


@pytest.fixture(scope="module")
def masked() -> Masked:
    return Masking(VOCABULARY, 0.15)(TEXT, SAMPLES, seed=0, epoch=0)


def by_sequence(masked: Masked) -> tuple[Tensor, Tensor, Tensor]:
    """Positions in their sequence, what is shown there and what is to be predicted, `[sequences, k]` each."""
    count, length = masked.input_ids.shape
    rows = masked.masked_rows.view(count, -1)
    return rows % length, masked.input_ids.flatten()[rows], masked.labels.view(count, -1)


def reference(tokens: list[int], sample: int, fraction: float, *, seed: int, epoch: int) -> tuple[list[int], list[int]]:
    """What the model reads, and the positions, as a person would write it for one sequence."""

    def below(limit: int, stream: int) -> int:
        return reference_below(limit, sample, seed=seed, epoch=epoch, stream=stream)

    candidates = [position for position, token in enumerate(tokens) if token >= len(SPECIAL)]
    count = max(1, round(fraction * len(tokens)))
    chosen = sorted(sorted(candidates, key=lambda position: (below(2**31, position), position))[:count])
    shown = list(tokens)
    for position in chosen:
        treatment = below(10, (1 << 32) + position)
        if treatment < 8:
            shown[position] = MASK
        elif treatment == 8:
            shown[position] = len(SPECIAL) + below(len(TOKENS) - len(SPECIAL), (2 << 32) + position)
    return shown, chosen


@pytest.mark.parametrize("fraction", [0.01, 0.15, 0.3])
def test_agrees_with_the_slow_reference(fraction: float) -> None:
    samples = torch.tensor([0, 17, 3999, 2])
    tokens = TEXT[samples]
    found = Masking(VOCABULARY, fraction)(tokens, samples, seed=5, epoch=3)
    positions, _, _ = by_sequence(found)
    for row, sample in enumerate(samples.tolist()):
        shown, chosen = reference(tokens[row].tolist(), sample, fraction, seed=5, epoch=3)
        assert found.input_ids[row].tolist() == shown
        assert positions[row].tolist() == chosen


@pytest.mark.parametrize(("fraction", "count"), [(0.15, 5), (0.3, 10), (0.001, 1)])
def test_each_sequence_has_the_same_number_of_tokens_to_predict(fraction: float, count: int) -> None:
    found = Masking(VOCABULARY, fraction)(TEXT[:50], SAMPLES[:50], seed=0, epoch=0)
    positions, _, labels = by_sequence(found)
    assert positions.shape == (50, count)
    assert bool((positions.diff(dim=1) > 0).all())
    assert torch.equal(labels, TEXT[:50].gather(1, positions))


def test_nothing_else_is_changed(masked: Masked) -> None:
    untouched = torch.ones(TEXT.numel(), dtype=torch.bool)
    untouched[masked.masked_rows] = False
    assert torch.equal(masked.input_ids.flatten()[untouched], TEXT.flatten()[untouched])


def test_no_special_token_is_chosen_or_drawn(masked: Masked) -> None:
    _, shown, labels = by_sequence(masked)
    assert bool((labels >= len(SPECIAL)).all())
    assert set(shown.flatten().tolist()) <= {MASK, *range(len(SPECIAL), len(TOKENS))}


def test_positions_are_uniform(masked: Masked) -> None:
    # A document ends in each sequence at a random place, never at the border: count how often each position is chosen
    # against how often it can be.
    positions, _, _ = by_sequence(masked)
    free = TEXT.ge(len(SPECIAL)).sum(0)
    chosen = torch.bincount(positions.flatten(), minlength=32)
    assert chosen[free == 0].sum() == 0
    expected = free / free.sum() * chosen.sum()
    inside = free > 0
    assert stats.chisquare(chosen[inside].numpy(), expected[inside].numpy(), sum_check=False).pvalue > 1e-3


def test_pairs_of_positions_are_uniform() -> None:
    tokens = torch.full((20_000, 8), 10)
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    found = Masking(VOCABULARY, 0.25)(tokens, torch.arange(20_000), seed=0, epoch=0)
    pairs, _, _ = by_sequence(found)
    counts = torch.bincount(8 * pairs[:, 0] + pairs[:, 1])
    counts = counts[counts > 0]
    assert len(counts) == 15
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_of_ten_chosen_tokens_eight_are_hidden_one_is_replaced_one_stays(masked: Masked) -> None:
    _, shown, labels = by_sequence(masked)
    hidden, stays = int((shown == MASK).sum()), int((shown == labels).sum())
    drawable = len(TOKENS) - len(SPECIAL)  # a drawn token is the old one again once in this many
    total = shown.numel()
    expected = [0.8 * total, (0.1 + 0.1 / drawable) * total, 0.1 * (1 - 1 / drawable) * total]
    assert stats.chisquare([hidden, stays, total - hidden - stays], expected).pvalue > 1e-3


def test_replacements_are_uniform_over_the_ordinary_tokens(masked: Masked) -> None:
    _, shown, labels = by_sequence(masked)
    replaced = shown[(shown != MASK) & (shown != labels)]
    counts = torch.bincount(replaced, minlength=len(TOKENS))[len(SPECIAL) :]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_a_sequence_does_not_depend_on_the_rest_of_its_batch() -> None:
    masking, order = Masking(VOCABULARY, 0.15), torch.randperm(60)
    together = masking(TEXT[:60], SAMPLES[:60], seed=1, epoch=2)
    shuffled = masking(TEXT[order], order, seed=1, epoch=2)
    alone = [masking(TEXT[i : i + 1], SAMPLES[i : i + 1], seed=1, epoch=2) for i in range(60)]
    assert torch.equal(together.input_ids[order], shuffled.input_ids)
    assert torch.equal(together.input_ids, torch.cat([one.input_ids for one in alone]))
    assert torch.equal(by_sequence(together)[0], torch.cat([by_sequence(one)[0] for one in alone]))


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_seed_and_epoch_choose_anew(masked: Masked, seed: int, epoch: int) -> None:
    other = Masking(VOCABULARY, 0.15)(TEXT, SAMPLES, seed=seed, epoch=epoch)
    here, there = (set(found.masked_rows.tolist()) for found in (masked, other))
    # Two independent choices of 5 out of 29: a token of the first is in the second with probability 5 / 29.
    assert stats.binomtest(len(here & there), len(here), 5 / 29).pvalue > 1e-3


def test_a_sequence_with_too_few_ordinary_tokens_leaves_the_rest_out() -> None:
    tokens = torch.tensor([[CLS, 9, SEP, 11, SEP, SEP, SEP, SEP]])
    found = Masking(VOCABULARY, 0.5)(tokens, torch.tensor([3]), seed=0, epoch=0)
    positions, _, labels = by_sequence(found)
    assert positions.shape == (1, 4)
    predicted = labels != IGNORED
    assert sorted(positions[predicted].tolist()) == [1, 3] and sorted(labels[predicted].tolist()) == [9, 11]
    assert torch.equal(found.input_ids[0, [0, 2, 4, 5, 6, 7]], tokens[0, [0, 2, 4, 5, 6, 7]])
