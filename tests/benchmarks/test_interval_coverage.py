"""The simulation behind coverage.json: its truth, and that what it counts is what happened."""

from __future__ import annotations

import numpy as np
import pytest

from interval_coverage import SEEDS, figures_of
from synthetic_races import ARMS, SHAPES, SPREADS, Counts, Racer, Spread, simulate


def _run(shape: str, racer: Racer, deviation: float | None = None, races: int = 50) -> Counts:
    chosen = SHAPES[shape] if deviation is None else SHAPES[shape]._replace(deviation=deviation)
    return simulate(chosen, Spread(), racer, seeds=3, races=races, rng=np.random.default_rng(0))


@pytest.mark.parametrize("shape", ["saturating", "rising"])
def test_an_arm_of_known_speed_is_found_and_covered(shape: str) -> None:
    """With next to no noise the interval is narrow, and lies on the truth."""
    counts = _run(shape, Racer(2.0), deviation=1e-7)
    assert counts.faster.all()
    assert counts.covered.mean() > 0.8
    assert (counts.width < 1.01).all()


def test_the_same_arm_is_no_faster() -> None:
    counts = _run("plateau", ARMS["same"])
    assert (counts.faster | counts.slower).mean() < 0.2
    assert np.isnan(counts.known).sum() < 50, "its true speed-up of 1 is inside what was raced"


def test_shared_seeds_make_arms_alike() -> None:
    shape, rng = SHAPES["rising"], np.random.default_rng
    apart, alike = (simulate(shape, Spread(shared=s), ARMS["same"], 3, 400, rng(0)) for s in (0.0, 0.9))
    assert (alike.faster | alike.slower).mean() < 0.02 < 0.2 - (apart.faster | apart.slower).mean()


def test_figures() -> None:
    flags = np.array([True, True, True, False])
    counts = Counts(
        flags, np.array([1.0, np.nan, 0.0, np.nan]), flags, ~flags, flags & ~flags, np.array([2.0, np.inf, 4.0, 3.0])
    )
    figures = figures_of({("rising", spread, arm): counts for spread in SPREADS for arm in ARMS}, seeds=3)
    cells = len(SPREADS) * len(ARMS)
    assert (figures["coverage_3_seeds"].value, figures["coverage_3_seeds"].n) == (0.75, 4 * cells)
    assert (figures["known_speedup_coverage_3_seeds"].value, figures["known_speedup_coverage_3_seeds"].n) == (
        0.5,
        2 * cells,
    )
    assert figures["aa_false_rate_3_seeds"].value == 0.25
    assert figures["median_width_3_seeds"].value == 3.0
    assert figures["open_3_seeds"].value == 0.25
    assert SEEDS == (2, 3, 5, 10)
