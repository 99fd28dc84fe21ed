"""The 95 % interval of a comparison: cell means redrawn with t-distributed noise, everything recomputed."""

from __future__ import annotations

import numpy as np

from headstart.race.cells import Cells, FloatArray, Noise
from headstart.race.speedup import Comparison, compare

DRAWS = 4000
_SEED = 20060521  # any constant: the same race must give the same interval


def redraw(baseline: Cells, arm: Cells, noise: Noise, draws: int = DRAWS) -> Comparison | None:
    """Compare the arm with the baseline once for each redraw of all cell means.

    A redraw gives every cell mean an independent normal error of the pooled deviation / sqrt(n), with one factor
    sqrt(df / chi-square(df)) for all cells of the redraw, since they share one estimate of the noise: a multivariate t.
    The standard error in the choice of b_ref takes the same factor. Costs stay as measured. That the arms share their
    seeds is not used: where it matters it makes their cells alike, and the interval wider than it need be.

    Args:
        baseline: The baseline's cells.
        arm: The arm's cells.
        noise: The pooled noise of the race.
        draws: Number of redraws.

    Returns:
        The comparisons, or None where the noise is not known (one seed).
    """
    if not noise.freedom:
        return None
    generator = np.random.default_rng(_SEED)
    deviation = noise.deviation * np.sqrt(noise.freedom / generator.chisquare(noise.freedom, size=draws))
    return compare(baseline, arm, _means(generator, baseline, deviation), _means(generator, arm, deviation), deviation)


def ends(low: FloatArray, high: FloatArray) -> tuple[float | None, float | None]:
    """The 2.5 and 97.5 percentiles of values known only to lie between `low` and `high`, shape (d,) each.

    The lower end comes from the lows, the upper from the highs; each is one of the values (nothing is interpolated, so
    that an end of the open kind cannot blur into its neighbour).

    Returns:
        The two ends; None for an end that is infinite or NaN: on that side the interval is open.

    Example:
        >>> low = np.array([0.0, 1.2, 1.3, 1.4])
        >>> ends(low, np.array([0.9, 1.2, 1.3, np.inf]))
        (0.0, None)
    """
    lower = float(np.quantile(np.nan_to_num(low, nan=-np.inf), 0.025, method="inverted_cdf"))
    upper = float(np.quantile(np.nan_to_num(high, nan=np.inf, posinf=np.inf), 0.975, method="inverted_cdf"))
    return lower if np.isfinite(lower) else None, upper if np.isfinite(upper) else None


def _means(generator: np.random.Generator, cells: Cells, deviation: FloatArray) -> FloatArray:
    errors = generator.standard_normal((len(deviation), len(cells.quality)))
    means: FloatArray = cells.quality + errors * deviation[:, None] / np.sqrt(cells.count)
    return means
