"""The noise between seeds, pooled over all cells of a race, that may fall or rise with the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Its mean is exact: equal runs have no spread at all, not one of rounding.
from statistics import mean

import numpy as np
from scipy.special import stdtrit

from headstart.race.statistics.cells import Cells, FloatArray, by_budget
from headstart.records import Curve, RunRecord

_SLOPES = np.linspace(-4.0, 2.0, 25)
_UPPER = 0.975  # of a two-sided 95 % interval


@dataclass(frozen=True)
class Noise:
    """What the spread between seeds says of the error of a mean.

    The variance of one run is taken to be `variance * exp(slope * (log budget - centre))`, the same in all arms: long
    trainings often differ less between seeds than short ones, and one number for both would make every interval at
    the baseline's best too wide. The slope is not known; each of `_SLOPES` gets a weight by how well it explains the
    spreads (its posterior probability, all slopes taken as equally likely before, and the variance integrated out
    under Jeffreys' prior).

    Leading axes (...) are those of the cells: races of the same plan, judged at once.

    Attributes:
        deviation: Pooled standard deviation of one run whatever its budget, shape (...); 0 without two runs in a cell.
        freedom: Degrees of freedom; 0 means that the noise is not known. The sum over cells of n - 1, or over arms
            where `alike`.
        centre: The log budget at which `variance` holds.
        weight: Weight of each slope, shape (..., s); they sum to 1.
        variance: Variance of one run at `centre` under each slope, shape (..., s).
        alike: Whether the cells of an arm are points of the same trainings (a cyclic race). How alike their errors are
            is not known, so the worst is assumed: that they rise and fall together, and tell of the noise only once.
    """

    deviation: FloatArray
    freedom: int
    centre: float
    weight: FloatArray
    variance: FloatArray
    alike: bool = False

    @classmethod
    def of(
        cls, budget: FloatArray, squares: FloatArray, freedom: FloatArray, *, trainings_freedom: int | None = None
    ) -> Noise:
        """Pool the spread of c cells.

        Args:
            budget: Budget of each cell, shape (c,).
            squares: Sum of squared deviations from the cell's mean, shape (..., c).
            freedom: Number of its runs less one, shape (c,).
            trainings_freedom: Where the cells of an arm are points of the same trainings, the sum over arms of their
                number less one.
        """
        total = int(freedom.sum())
        if not total:
            nothing = np.zeros((*squares.shape[:-1], len(_SLOPES)))
            return cls(np.zeros(squares.shape[:-1]), 0, 0.0, nothing + 1 / len(_SLOPES), nothing)
        known = total if trainings_freedom is None else trainings_freedom
        # Centred so, the likelihood of a slope depends on the scaled sum of squares alone.
        centre = float(freedom @ np.log(budget)) / total
        scale = np.exp(-_SLOPES * (np.log(budget) - centre)[:, None])
        scaled = squares @ scale
        least = scaled.min(axis=-1, keepdims=True)
        likelihood = (np.where(least > 0, least, 1.0) / np.where(scaled > 0, scaled, 1.0)) ** (known / 2)
        return cls(
            deviation=np.sqrt(squares.sum(axis=-1) / total),
            freedom=known,
            centre=centre,
            weight=likelihood / likelihood.sum(axis=-1, keepdims=True),
            variance=scaled / total,
            alike=trainings_freedom is not None,
        )

    def of_means(self, cells: Cells) -> FloatArray:
        """The variance of each cell's mean under each slope, in units of `variance`, shape (k, s)."""
        scale: FloatArray = np.exp(_SLOPES * (np.log(cells.budget) - self.centre)[:, None]) / cells.count[:, None]
        return scale

    def of_combination(self, shares: FloatArray, cells: Cells) -> FloatArray:
        """The variance of a linear combination of an arm's cell means under each slope, in units of `variance`.

        Args:
            shares: Of each cell, shape (..., k).
            cells: Of one arm.

        Returns:
            Shape (..., s).
        """
        if self.alike:
            together: FloatArray = (np.abs(shares) @ np.sqrt(self.of_means(cells))) ** 2
            return together
        apart: FloatArray = shares**2 @ self.of_means(cells)
        return apart

    def spread(self, units: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The squared standard error of a linear combination of cell means, and its degrees of freedom.

        Each slope makes the combination's precision (1 / squared error) a gamma variable; the mixture of them is
        replaced by the one with the same mean and variance, as Satterthwaite does with sums of variances. With a
        single budget, or all means at one, this is Student's t exactly.

        Args:
            units: The combination's variance under each slope in units of `variance`, shape (..., s); or of several
                combinations of each race, shape (..., g, s).

        Returns:
            Squared standard error and degrees of freedom, shape (...) or (..., g).

        Source: Satterthwaite, "An Approximate Distribution of Estimates of Variance Components" (1946).
        """
        between = tuple(range(self.variance.ndim - 1, units.ndim - 1))
        weight, variance = (np.expand_dims(values, between) for values in (self.weight, self.variance))
        squared = units * variance
        nothing = squared.min(axis=-1, keepdims=True) <= 0  # not so of NaN, which stays what it is
        precision = 1 / np.where(nothing, 1.0, squared)
        mean = (weight * precision).sum(axis=-1)
        second = (weight * precision**2).sum(axis=-1) * (1 + 2 / self.freedom)
        error: FloatArray = np.where(nothing[..., 0], 0.0, 1 / mean)
        # The mixture is never narrower than its parts; rounding must not make it so.
        return error, 2 / np.maximum(second / mean**2 - 1, 2 / self.freedom)

    def margin(self, units: FloatArray) -> FloatArray:
        """Half the width of the 95 % interval of a linear combination of cell means; arguments as for `spread`."""
        squared, freedom = self.spread(units)
        half: FloatArray = stdtrit(freedom, _UPPER) * np.sqrt(squared)
        return half


def pooled_noise(runs: Sequence[RunRecord], curve: Curve = "separate") -> Noise:
    """The noise of a race's runs, pooled over all arm x budget cells.

    Args:
        runs: Of all arms.
        curve: Whether the runs of an arm with the same seed are points of one training.

    Example:
        >>> runs = [RunRecord(quality=quality, seconds=1, budget=1) for quality in (0.8, 0.9, 1.0)]
        >>> noise = pooled_noise(runs)
        >>> round(float(noise.deviation), 9), noise.freedom
        (0.1, 2)
    """
    arms = [by_budget([run for run in runs if run.arm == arm]) for arm in sorted({run.arm for run in runs})]
    groups = [group for arm in arms for group in arm]
    trainings = sum(max(len(group) for group in arm) - 1 for arm in arms)
    return Noise.of(
        budget=np.array([group[0].budget for group in groups]),
        squares=np.array([_squares([run.quality for run in group]) for group in groups]),
        freedom=np.array([len(group) - 1 for group in groups]),
        trainings_freedom=trainings if curve == "cyclic" else None,
    )


def _squares(values: Sequence[float]) -> float:
    middle = mean(values)
    return sum((value - middle) ** 2 for value in values)
