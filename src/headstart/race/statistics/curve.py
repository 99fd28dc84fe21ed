"""A tradeoff curve: made monotone, and read in both directions between the measured points, never beyond them.

Every function takes quality with its sign turned so that more is better, cost rising along the last axis, and any
number of leading axes for curves that share the costs (those of simulated races, or moved to find a margin).
"""

from __future__ import annotations

import numpy as np

from headstart.race.statistics.cells import FloatArray


def monotone(quality: FloatArray, weight: FloatArray) -> FloatArray:
    """The non-decreasing curve nearest to the points in weighted least squares (isotonic regression).

    Args:
        quality: Mean qualities, shape (..., k), in the order of rising cost.
        weight: Weight of each point, shape (k,): the number of runs behind it.

    Returns:
        The fitted curves, shape (..., k). A point that breaks no order keeps its value exactly.

    Source: Barlow et al., "Statistical Inference under Order Restrictions" (1972), the max-min formula: the fit at i is
    the largest over j <= i of the smallest over l >= i of the weighted mean of the points j to l.

    Example:
        >>> monotone(np.array([0.1, 0.5, 0.25, 0.75]), np.ones(4)).tolist()
        [0.1, 0.375, 0.375, 0.75]
    """
    size = quality.shape[-1]
    nothing = np.zeros((*quality.shape[:-1], 1))
    sums = np.concatenate([nothing, np.cumsum(quality * weight, axis=-1)], axis=-1)
    weights = np.concatenate([[0.0], np.cumsum(weight)])
    fitted = np.empty_like(quality, dtype=np.float64)
    for i in range(size):
        means = sums[..., None, i + 1 :] - sums[..., : i + 1, None]
        means = means / (weights[None, i + 1 :] - weights[: i + 1, None])
        fitted[..., i] = means.min(axis=-1).max(axis=-1)
    # Prefix sums cost the last bits. Equal curves must stay equal: a rounding error must never decide a comparison.
    rounding = 1e-12 * np.abs(quality).max(axis=-1, keepdims=True)
    fitted = np.where(np.abs(fitted - quality) <= rounding, quality, fitted)
    return np.maximum.accumulate(fitted, axis=-1)


def cost_to_reach(cost: FloatArray, curve: FloatArray, target: FloatArray) -> FloatArray:
    """The smallest cost at which a monotone curve, linear in log cost between its points, reaches a quality.

    Args:
        cost: Costs above 0, rising, shape (k,).
        curve: Monotone qualities, shape (..., k).
        target: The quality to reach, shape (...).

    Returns:
        Costs, shape (...): NaN where the curve never reaches the target, the smallest cost where it starts above.

    Example:
        >>> float(cost_to_reach(np.array([1.0, 4.0]), np.array([0.0, 1.0]), np.array(0.5)))
        2.0
    """
    reached = curve >= target[..., None]
    after = reached.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    low, high = _take(curve, before), _take(curve, after)
    rise = np.where(high > low, high - low, 1.0)
    fraction = np.where(after > before, (target - low) / rise, 1.0)
    between = cost[before] * (cost[after] / cost[before]) ** np.clip(fraction, 0.0, 1.0)
    exact = np.where(fraction >= 1.0, cost[after], between)
    return np.where(reached.any(axis=-1), exact, np.nan)


def quality_at(cost: FloatArray, curve: FloatArray, at: FloatArray) -> FloatArray:
    """The quality of a monotone curve, linear in log cost between its points, at a cost.

    Past the last point it is the last point's quality: what was reached by then is still there. Before the first point
    nothing has been measured: NaN.

    Args:
        cost: Costs above 0, rising, shape (k,).
        curve: Monotone qualities, shape (..., k).
        at: The cost to read at, shape (...).

    Returns:
        Qualities, shape (...).
    """
    size = len(cost)
    after = np.clip(np.searchsorted(cost, at, side="left"), 0, size - 1)
    before = np.maximum(after - 1, 0)
    low, high = _take(curve, before), _take(curve, after)
    width = np.log(cost[after] / cost[before])
    fraction = np.log(np.maximum(at, cost[before]) / cost[before]) / np.where(width > 0, width, 1.0)
    inside = low + (high - low) * np.clip(fraction, 0.0, 1.0)
    # Equal costs summed in another order differ in the last bits; that is not "before the first point".
    at_first = np.where(at >= cost[0] * (1 - 1e-9), curve[..., 0], np.nan)
    return np.where(after == 0, at_first, inside)


def _take(values: FloatArray, index: np.ndarray) -> FloatArray:
    shape = np.broadcast_shapes(values.shape[:-1], index.shape)
    spread = np.broadcast_to(values, (*shape, values.shape[-1]))
    return np.take_along_axis(spread, np.broadcast_to(index, shape)[..., None], axis=-1)[..., 0]
