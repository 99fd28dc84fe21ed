"""The temperature that calibrates a model: one number that its logits are divided by, found by likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from headstart.distill.probing.evidence import Evidence

LIMIT = 10.0  # temperatures lie between 1 / LIMIT and LIMIT
SHARPEST = 0.5  # at which a teacher is asked; docs/auto.md says why
_STEPS, _EXACT = 60, 1e-9  # of the search, and how near to the best log T it ends
_AT_ONCE = 2**21  # logits that are looked at in float64 at a time


def calibrating_temperature(heads: Sequence[Evidence]) -> float:
    """The T that makes the labels likeliest, of logits divided by it (Guo et al. 2017, arXiv 1706.04599).

    The negative log-likelihood is convex in 1 / T, so that its slope has one root at most. Newton's method looks for it
    in log T, in float64, inside a bracket that every step narrows; where it would leave that, the bracket is halved.

    Args:
        heads: What a model said to labelled rows, of classes or labels; several heads count alike.

    Returns:
        In [1 / 10, 10]. A bound is what a model gets that says nothing (10), or is right in every row (1 / 10).

    Example:
        >>> logits = torch.tensor([[math.log(9.0) * 2, 0.0]]).expand(10, 2)  # says 99 %
        >>> labels = torch.tensor([0] * 9 + [1])  # and is right in 90 %
        >>> round(calibrating_temperature([Evidence("classes", logits, labels)]), 6)
        2.0
    """
    low, high = -math.log(LIMIT), math.log(LIMIT)  # of log(1 / T)
    if _slope(heads, low)[0] >= 0.0:
        return LIMIT
    if _slope(heads, high)[0] <= 0.0:
        return 1.0 / LIMIT
    place = 0.0
    for _ in range(_STEPS):
        slope, curvature = _slope(heads, place)
        low, high = (place, high) if slope < 0.0 else (low, place)
        step = -slope / curvature if curvature > 0.0 else math.inf
        following = place + step if low < place + step < high else (low + high) / 2
        if abs(following - place) < _EXACT:
            break
        place = following
    return math.exp(-place)


def _slope(heads: Sequence[Evidence], place: float) -> tuple[float, float]:
    """Of the mean negative log-likelihood at 1 / T = exp(place): what has its sign and root, and the slope of that."""
    inverse, slope, curvature = math.exp(place), 0.0, 0.0
    for head in heads:
        total, of_head = torch.zeros(2, dtype=torch.float64), _of_classes if head.head == "classes" else _of_labels
        for logits, labels in _pieces(head):
            total += of_head(logits, labels, inverse)
        slope += float(total[0]) / head.count
        curvature += float(total[1]) * inverse / head.count
    return slope, curvature


def _of_classes(logits: Tensor, labels: Tensor, inverse: float) -> Tensor:
    """Sums over rows: of the mean logit under the model less the label's, and of the logits' variance under it."""
    logits = logits - logits.amax(-1, keepdim=True)
    p = (logits * inverse).softmax(-1)
    mean = (p * logits).sum(-1)
    variance = (p * (logits - mean.unsqueeze(-1)).square()).sum(-1)
    if labels.dim() == 1:
        said = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    else:
        said = (labels.double() * logits).sum(-1)
    return torch.stack([(mean - said).sum(), variance.sum()]).cpu()


def _of_labels(logits: Tensor, labels: Tensor, inverse: float) -> Tensor:
    p = (logits * inverse).sigmoid()
    return torch.stack([((p - labels) * logits).sum(), (p * (1.0 - p) * logits.square()).sum()]).cpu()


def _pieces(head: Evidence) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits in float64, and labels, some at a time."""
    logits, labels = head.logits, head.labels
    if head.head != "classes":
        logits, labels = logits[head.counted], labels[head.counted]
    rows = max(1, _AT_ONCE // (logits.shape[-1] if logits.dim() > 1 else 1))
    for begin in range(0, len(logits), rows):
        yield logits[begin : begin + rows].double(), labels[begin : begin + rows]
