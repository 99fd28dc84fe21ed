"""Random numbers per sample: uniform and independent along every argument, and nothing else matters."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from headstart.tasks.random import random_below
from tests.tasks.reference import reference_below

SAMPLES = torch.arange(40_000)


def test_agrees_with_whole_numbers_of_any_size() -> None:
    samples, streams = torch.tensor([[0], [7], [2**40 + 3]]), torch.tensor([0, 5, (1 << 32) + 9])
    found = random_below(1 << 31, samples, seed=2**32 - 1, epoch=12, stream=streams)
    expected = [
        [reference_below(1 << 31, sample, seed=2**32 - 1, epoch=12, stream=stream) for stream in streams.tolist()]
        for sample in samples.flatten().tolist()
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0), (1, 1)])
def test_seed_epoch_and_sample_each_change_the_draw(seed: int, epoch: int) -> None:
    first = random_below(1000, SAMPLES, seed=0, epoch=0, stream=0)
    other = random_below(1000, SAMPLES, seed=seed, epoch=epoch, stream=0)
    # Independent draws agree once in a thousand: 40 of 40 000 expected, 6.3 the standard deviation.
    assert 10 < int((first == other).sum()) < 75
    assert 10 < int((first[1:] == first[:-1]).sum()) < 75


def test_nothing_but_the_arguments_matters() -> None:
    first = random_below(1000, SAMPLES, seed=4, epoch=2, stream=1)
    torch.manual_seed(99)
    assert torch.equal(first, random_below(1000, SAMPLES, seed=4, epoch=2, stream=1))


@pytest.mark.parametrize("limit", [2, 5, 9, 28])
@pytest.mark.parametrize("axis", ["sample", "epoch", "seed", "stream"])
def test_draws_are_uniform_along_every_argument(limit: int, axis: str) -> None:
    fixed = {"seed": 1, "epoch": 2, "stream": 3}
    if axis == "sample":
        draws = random_below(limit, SAMPLES, **fixed)
    else:
        one = torch.tensor([17])
        draws = torch.cat([random_below(limit, one, **{**fixed, axis: value}) for value in range(500)])
    assert stats.chisquare(torch.bincount(draws, minlength=limit).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(range(5), 2)))
def test_the_draws_of_one_sample_are_independent_of_each_other(one: int, other: int) -> None:
    pairs = [random_below(5, SAMPLES, seed=0, epoch=0, stream=stream) for stream in (one, other)]
    table = torch.bincount(5 * pairs[0] + pairs[1], minlength=25).view(5, 5).numpy()
    assert stats.chi2_contingency(table).pvalue > 1e-3
