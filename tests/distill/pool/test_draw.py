"""The draw: its odds, that it depends on nothing but its arguments, and that it stays what it was."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from headstart.distill.pool.draw import draw, uniforms

STEPS = 6000


def test_golden_values() -> None:
    """A run that is resumed with a later version has to draw the same teachers: never change these."""
    assert uniforms(3, seed=0, step=0) == [0.6299085342998938, 0.14644931532101396, 0.7529948673486184]
    assert uniforms(2, seed=17, step=3, rank=2) == [0.4445108783856239, 0.2911478289974277]
    assert [draw(4, seed=0, step=step)[0] for step in range(12)] == [3, 0, 3, 1, 1, 1, 1, 2, 3, 1, 1, 1]
    assert [draw(4, seed=0, step=step, rank=1)[0] for step in range(12)] == [2, 3, 1, 3, 3, 2, 3, 3, 1, 0, 1, 3]
    assert [draw(5, 2, seed=1, step=step) for step in range(4)] == [(1, 2), (1, 3), (0, 2), (0, 2)]
    weighted = [draw(3, weights=[1, 2, 7], seed=2, step=step)[0] for step in range(12)]
    assert weighted == [1, 1, 2, 2, 2, 2, 2, 2, 2, 0, 2, 1]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [1.0, 2.0, 7.0], [0.001, 0.002, 0.003, 0.004], [5.0, 5e-2]])
def test_one_is_drawn_with_the_odds_of_its_weight(weights: list[float] | None, seed: int) -> None:
    size = len(weights or [1, 1, 1])
    counts = Counter(draw(size, weights=weights, seed=seed, step=step)[0] for step in range(STEPS))
    odds = np.array(weights or [1.0] * size)
    observed = [counts[index] for index in range(size)]
    assert stats.chisquare(observed, STEPS * odds / odds.sum()).pvalue > 1e-3


@pytest.mark.parametrize(("size", "count"), [(3, 2), (5, 2), (5, 3), (6, 5)])
def test_subsets_are_uniform(size: int, count: int) -> None:
    counts = Counter(draw(size, count, seed=3, step=step) for step in range(STEPS))
    subsets = list(combinations(range(size), count))
    assert set(counts) <= set(subsets)  # in increasing order, none twice
    assert stats.chisquare([counts[subset] for subset in subsets]).pvalue > 1e-3


@pytest.mark.parametrize("other", [{"step": 1}, {"seed": 1}, {"rank": 1}], ids=["next step", "next seed", "next rank"])
def test_draws_of_neighbours_are_independent(other: dict[str, int]) -> None:
    pairs = [[0] * 3 for _ in range(3)]
    for step in range(STEPS):
        (here,) = draw(3, seed=0, step=2 * step, rank=0)
        (there,) = draw(3, seed=other.get("seed", 0), step=2 * step + other.get("step", 0), rank=other.get("rank", 0))
        pairs[here][there] += 1
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_uniforms_are_uniform() -> None:
    values = [value for step in range(500) for value in uniforms(4, seed=9, step=step)]
    assert 0.0 < min(values) < max(values) < 1.0
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_is_a_pure_function() -> None:
    """It neither reads nor moves the global generators."""
    before = (random.getstate(), torch.get_rng_state(), np.random.get_state(legacy=False))
    first = [draw(5, 2, seed=4, step=step) for step in range(20)]
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    np.testing.assert_equal(np.random.get_state(legacy=False), before[2])
    random.seed(1)
    torch.manual_seed(1)
    assert [draw(5, 2, seed=4, step=step) for step in reversed(range(20))] == first[::-1]


def test_all_are_drawn_in_order() -> None:
    assert draw(4, 4) == draw(4, 9) == (0, 1, 2, 3)
    assert draw(1) == (0,)


@pytest.mark.parametrize("seed", [-1, 2**63 - 1])
def test_takes_any_64_bit_seed(seed: int) -> None:
    assert draw(3, seed=seed) in [(0,), (1,), (2,)]
