"""What a Trainer's task loss was divided by: found from its value, or from its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.adapters.model_head import BACKGROUND
from headstart.distill.losses import widen
from headstart.distill.objective import IGNORED

_ROWS = 256  # looked at together; a gradient has the same divisor in each, so that so many do


class Scale(NamedTuple):
    """How a sum over labels became a task loss.

    Attributes:
        divided: By the labels of the whole optimiser step (`num_items_in_batch`), and not by those of its micro-batch.
        factor: By which it was multiplied, against the mean over processes.
    """

    divided: bool
    factor: float


@dataclass(frozen=True)
class Total:
    """A loss summed over the labels of a micro-batch.

    Attributes:
        sum: The sum.
        count: Of labels.
    """

    sum: float
    count: int


@torch.no_grad()
def totals(logits: Tensor, labels: Tensor) -> list[Total]:
    """What a mean over a micro-batch's labels may be the mean of.

    Args:
        logits: `[..., classes]`, or maps of them `[batch, classes, height, width]`.
        labels: `[...]` of int64, one for each row of the logits; or maps `[batch, height, width]`, of any size; or
            floating, for several labels at once and for values.

    Returns:
        Cross-entropies, of maps at the labels' size; or binary cross-entropies, and squared errors. Empty where the
        labels fit in none of these ways.

    Example:
        >>> totals(torch.zeros(2, 1), torch.tensor([0, -100]))
        [Total(sum=0.0, count=1)]
    """
    if labels.is_floating_point():
        if labels.numel() != logits.numel():
            return []
        values, targets = widen(logits).flatten(), widen(labels).flatten()
        squares = F.mse_loss(values, targets, reduction="sum")
        entropies = F.binary_cross_entropy_with_logits(values, targets, reduction="sum")
        return [Total(float(total), labels.numel()) for total in (entropies, squares)]
    if labels.shape == logits.shape[:-1]:
        return [_cross_entropies(logits, labels)]
    if logits.dim() == 4 and labels.dim() == 3 and len(logits) == len(labels):
        maps = F.interpolate(widen(logits), labels.shape[-2:], mode="bilinear", align_corners=False)
        return [_cross_entropies(maps.movedim(1, -1), torch.where(labels == BACKGROUND, IGNORED, labels))]
    return []


def _cross_entropies(logits: Tensor, labels: Tensor) -> Total:
    """In parts, as all logits in float32 may be many."""
    rows, classes = logits.flatten(0, -2), labels.flatten()
    parts = zip(torch.split(rows, _ROWS), torch.split(classes, _ROWS), strict=True)
    sums = [F.cross_entropy(widen(part), of, ignore_index=IGNORED, reduction="sum").double() for part, of in parts]
    return Total(float(torch.stack(sums).sum()), int((classes != IGNORED).sum()))


def scales_by_value(
    loss: float, total: Total, num_items: float, factors: Iterable[float], *, tolerance: float
) -> list[Scale]:
    """The scales that make a loss of a sum.

    Args:
        loss: The task loss, as the Trainer has it.
        total: What it is a multiple of, perhaps.
        num_items: The labels of the whole optimiser step, as the Trainer counts them.
        factors: Which it may have been multiplied by.
        tolerance: Relative.

    Example:
        >>> scales_by_value(2.0, Total(8.0, 4), 16, [1.0], tolerance=1e-5)
        [Scale(divided=False, factor=1.0)]
    """
    divisors = {False: total.count, True: num_items}
    return [
        Scale(divided, factor)
        for divided, divisor in divisors.items()
        for factor in factors
        if divisor and math.isclose(loss, factor * total.sum / divisor, rel_tol=tolerance)
    ]


def scale_by_gradient(
    gradient: Tensor, logits: Tensor, labels: Tensor, num_items: float, factors: Sequence[float]
) -> Scale | None:
    """The scale that a gradient has, of a loss that is a cross-entropy in the main.

    That of a sum of cross-entropies is p - y, with p the softmax and y the label. Terms that do not pass through the
    logits are without effect, and label smoothing changes its length by little, where scales differ by whole numbers.

    Args:
        gradient: Of the task loss, in the logits.
        logits: `[..., classes]`.
        labels: `[...]` of int64, the label of each row.
        num_items: As in `scales_by_value`.
        factors: As there.

    Returns:
        None where no scale comes close, or several do.
    """
    labelled = (labels.flatten() != IGNORED).nonzero().flatten()
    if not len(labelled) or not num_items:
        return None
    count, chosen = len(labelled), labelled[:_ROWS]
    rows, classes = widen(logits.detach().flatten(0, -2)[chosen]), labels.flatten()[chosen]
    expected = rows.softmax(-1) - F.one_hot(classes, rows.shape[-1]).to(rows.dtype)
    found = widen(gradient.flatten(0, -2)[chosen])
    along = (found * expected).sum() / (expected.square().sum() * found.square().sum()).sqrt()
    length = float((found * expected).sum() / expected.square().sum())
    if not float(along) > 0.9 or not length > 0:
        return None
    scales = [Scale(divided, factor) for divided in (False, True) for factor in factors]
    far = [abs(math.log(length * (num_items if divided else count) / factor)) for divided, factor in scales]
    (closest, scale), (runner_up, _) = sorted(zip(far, scales, strict=True))[:2]
    return scale if closest < 0.2 and runner_up - closest > 0.3 else None
