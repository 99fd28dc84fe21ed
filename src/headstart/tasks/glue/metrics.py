"""GLUE's metrics, from scikit-learn and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def measure(metric: str, outputs: NDArray[np.floating[Any]], labels: NDArray[Any]) -> float:
    """One metric of a model's outputs.

    Args:
        metric: `accuracy`, `f1` (of class 1), `matthews` (correlation) or `spearman` (rank correlation).
        outputs: `[samples, classes]`: logits; for `spearman` one column of scores.
        labels: `[samples]`: classes; for `spearman` scores.

    Returns:
        From 0 to 1, the correlations from -1 to 1. A correlation with a constant, which is not defined, counts as 0:
        the model has learnt nothing.

    Example:
        >>> logits = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
        >>> measure("accuracy", logits, np.array([0, 1, 0])), measure("f1", logits, np.array([0, 1, 0]))
        (0.666..., 0.666...)
    """
    if metric == "spearman":
        return _spearman(outputs[:, 0], labels)
    from sklearn import metrics

    predictions = outputs.argmax(axis=1)
    if metric == "accuracy":
        return float(metrics.accuracy_score(labels, predictions))
    if metric == "f1":
        return float(metrics.f1_score(labels, predictions, zero_division=0.0))
    assert metric == "matthews", metric
    return float(metrics.matthews_corrcoef(labels, predictions))


def _spearman(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> float:
    from scipy.stats import spearmanr

    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(spearmanr(scores, labels).statistic)
