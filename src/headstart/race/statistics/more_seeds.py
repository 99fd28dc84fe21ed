"""How many more seeds would resolve a verdict."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from headstart.race.statistics.cells import Cells
from headstart.race.statistics.interval import gain_units
from headstart.race.statistics.noise import Noise
from headstart.race.statistics.speedup import Comparison

_POWER = 0.8
_MOST = 1000  # a difference that needs more is none that anyone will resolve


def more_seeds(baseline: Cells, arm: Cells, noise: Noise, point: Comparison) -> int | None:
    """How many more seeds, in every cell, would tell the arm from the baseline in 4 of 5 such races.

    Forecast from the gain at equal cost and the noise as they are now: the smallest number of seeds n' at which the
    gain is as large as the margin of its interval and the 80 % point of its error together. The squared error falls as
    1 / n', the degrees of freedom rise as n' - 1.

    Args:
        baseline: The baseline's cells, sorted by budget.
        arm: The arm's cells, sorted by cost.
        noise: The noise of the race.
        point: The comparison of the two as measured, of one race.

    Returns:
        None where there is no forecast: one seed, no gain to tell, a number over 1000, or an arm that is not as good
        but had less time than the baseline, which more seeds cannot mend.
    """
    gain, seeds = float(point.gain), float(baseline.count[point.reference])
    short = gain < 0 and arm.cost[-1] < point.baseline_cost
    if not noise.freedom or seeds < 2 or not np.isfinite(gain) or gain == 0 or short:
        return None
    squared, freedom = noise.spread(gain_units(baseline, arm, noise, point))
    number = np.arange(seeds + 1, seeds + _MOST + 1)
    error = np.sqrt(squared * seeds / number)
    needed = (stdtrit(freedom * (number - 1) / (seeds - 1), 0.975) + ndtri(_POWER)) * error
    enough = abs(gain) >= needed
    return int(number[enough.argmax()] - seeds) if enough.any() else None
