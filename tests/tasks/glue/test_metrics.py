"""The metrics, against their formulas and against scikit-learn and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from headstart.tasks.glue.metrics import measure

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(200, 2)).astype(np.float32)
CLASSES = np.where(GENERATOR.random(200) < 0.6, LOGITS.argmax(1), 1 - LOGITS.argmax(1))
SCORES = GENERATOR.normal(size=(200, 1)).astype(np.float32)
GRADES = (SCORES[:, 0] + GENERATOR.normal(size=200)).round(0).clip(0, 5).astype(np.float32)  # with many ties


def counts() -> tuple[int, int, int, int]:
    predicted = LOGITS[:, 1] > LOGITS[:, 0]
    truth = CLASSES == 1
    return (
        int((predicted & truth).sum()),
        int((predicted & ~truth).sum()),
        int((~predicted & truth).sum()),
        int((~predicted & ~truth).sum()),
    )


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """By definition: how many are smaller, and half of those that are equal."""
    return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])


def test_classification_metrics_are_those_of_the_formulas() -> None:
    true_1, false_1, false_0, true_0 = counts()
    assert measure("accuracy", LOGITS, CLASSES) == pytest.approx((true_1 + true_0) / 200)
    assert measure("f1", LOGITS, CLASSES) == pytest.approx(2 * true_1 / (2 * true_1 + false_1 + false_0))
    product = (true_1 + false_1) * (true_1 + false_0) * (true_0 + false_1) * (true_0 + false_0)
    matthews = (true_1 * true_0 - false_1 * false_0) / product**0.5
    assert measure("matthews", LOGITS, CLASSES) == pytest.approx(matthews)


def test_spearman_is_the_correlation_of_ranks() -> None:
    expected = np.corrcoef(ranks(SCORES[:, 0]), ranks(GRADES))[0, 1]
    assert measure("spearman", SCORES, GRADES) == pytest.approx(expected)


def test_metrics_agree_with_scikit_learn_and_scipy() -> None:
    predicted = LOGITS.argmax(1)
    assert measure("accuracy", LOGITS, CLASSES) == metrics.accuracy_score(CLASSES, predicted)
    assert measure("f1", LOGITS, CLASSES) == metrics.f1_score(CLASSES, predicted)
    assert measure("matthews", LOGITS, CLASSES) == metrics.matthews_corrcoef(CLASSES, predicted)
    assert measure("spearman", SCORES, GRADES) == stats.spearmanr(SCORES[:, 0], GRADES).statistic


def test_three_classes() -> None:
    logits = np.eye(3)[[0, 1, 2, 2]]
    assert measure("accuracy", logits, np.array([0, 1, 2, 0])) == 0.75


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["f1", "matthews", "spearman"])
def test_a_model_that_always_says_the_same_scores_zero(metric: str) -> None:
    outputs = np.ones((6, 1)) if metric == "spearman" else np.tile([1.0, 0.0], (6, 1))
    assert measure(metric, outputs, np.array([0, 1, 0, 1, 1, 0])) == 0.0
