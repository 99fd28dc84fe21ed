"""The speed-up at a given quality, and over all qualities that both curves reach, with their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstart.race.statistics.cells import Cells, FloatArray
from headstart.race.statistics.curve import cost_to_reach, monotone
from headstart.race.statistics.interval import cost_ends
from headstart.race.statistics.noise import Noise
from headstart.records import Estimate

_QUALITIES = 101  # qualities that the mean over the overlap is made of


def speedup_at(baseline: Cells, arm: Cells, noise: Noise, quality: float) -> Estimate | None:
    """The speed-up to a given quality: the baseline's cost to reach it over the arm's, both from monotone curves.

    Its interval joins those of the two costs (`interval.cost_ends`): on the log scale, the distance of each of its ends
    is the root of the sum of the squares of the distances of the two ends that it depends on.

    Args:
        baseline: The baseline's cells, sorted by cost.
        arm: The arm's cells, sorted by cost.
        noise: The noise of the race.
        quality: With the sign turned so that more is better.

    Returns:
        None where one of the two never reaches it or is above it from the start. The interval's lower end is 0 where
        the arm may never reach it; None stands for an end that the race says nothing about.

    Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach" (2008).
    """
    target = np.asarray(quality)
    curves = [monotone(cells.quality, cells.count) for cells in (baseline, arm)]
    if any(target < curve[0] or target > curve[-1] for curve in curves):
        return None
    base, mine = (float(cost_to_reach(cells.cost, c, target)) for cells, c in zip((baseline, arm), curves, strict=True))
    if not noise.freedom:
        return Estimate(value=base / mine)
    given = np.zeros_like(noise.variance)
    (base_low, base_high), (mine_low, mine_high) = (
        (float(end) for end in cost_ends(cells, noise, curve, target, given))
        for cells, curve in zip((baseline, arm), curves, strict=True)
    )
    low = _joined(base / mine, base / base_low if base_low > 0 else np.nan, mine_high / mine, -1)
    high = _joined(base / mine, base_high / base, mine / mine_low if mine_low > 0 else np.nan, 1)
    return Estimate(value=base / mine, low=0.0 if np.isnan(mine_high) else low, high=high)


def overlap_speedup(baseline: Cells, arm: Cells) -> FloatArray:
    """The mean over all qualities that both curves reach of the log speed-up to them, shape (...).

    The qualities are weighted evenly, from the poorest to the best that lie on both curves (made monotone, linear in
    log cost). NaN where there are none.

    Args:
        baseline: The baseline's cells, sorted by cost.
        arm: The arm's cells, sorted by cost.
    """
    ours, theirs = (monotone(cells.quality, cells.count) for cells in (arm, baseline))
    lowest = np.maximum(ours[..., 0], theirs[..., 0])
    highest = np.minimum(ours[..., -1], theirs[..., -1])
    middles = (np.arange(_QUALITIES) + 0.5) / _QUALITIES
    quality = lowest[..., None] + (highest - lowest)[..., None] * middles
    logs = np.log(cost_to_reach(baseline.cost, theirs[..., None, :], quality)) - np.log(
        cost_to_reach(arm.cost, ours[..., None, :], quality)
    )
    return np.where(highest > lowest, logs.mean(axis=-1), np.nan)


def overlap_margin(baseline: Cells, arm: Cells, noise: Noise) -> FloatArray:
    """Half the width of the 95 % interval of `overlap_speedup`, shape (...); NaN where it cannot be told.

    Every cell mean is moved up and down by its standard error, to see how far that moves the result; as the result is
    a mean over many qualities it follows the cell means nearly linearly.

    Args:
        baseline: The baseline's cells, sorted by cost.
        arm: The arm's cells, sorted by cost.
        noise: The noise of the race; its degrees of freedom must not be 0.
    """
    units = np.zeros_like(noise.variance)
    for moved in (baseline, arm):
        of_means = noise.of_means(moved)
        slopes: list[FloatArray] = []
        for cell in range(len(moved.cost)):
            step = np.sqrt(noise.spread(np.broadcast_to(of_means[cell], noise.variance.shape))[0])
            up, down = (_moved(moved, cell, sign * step) for sign in (1, -1))
            if moved is baseline:
                change = overlap_speedup(up, arm) - overlap_speedup(down, arm)
            else:
                change = overlap_speedup(baseline, up) - overlap_speedup(baseline, down)
            slopes.append(change / np.where(step > 0, 2 * step, 1.0))
        units = units + noise.of_combination(np.stack(slopes, axis=-1), moved)
    return noise.margin(units)


def _moved(cells: Cells, cell: int, step: FloatArray) -> Cells:
    quality = cells.quality.copy()
    quality[..., cell] += step
    return replace(cells, quality=quality)


def _joined(speedup: float, first: float, second: float, sign: int) -> float | None:
    """The end of an interval from the factors by which two costs may be off; None where one of them is open."""
    end = speedup * np.exp(sign * np.hypot(np.log(first), np.log(second)))
    return float(end) if np.isfinite(end) else None
