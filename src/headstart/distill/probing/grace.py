"""GRACE: a score of a teacher by the student's gradients on what it says (arXiv 2511.02833). Lower is better."""

from __future__ import annotations

import torch
from torch import Tensor

DIMENSIONS = 512  # that gradients are projected to
_SPLITS, _HELD_OUT = 10, 0.1
_SMOOTHING = 1e-3  # of eigenvalues, towards their mean


def grace(gradients: Tensor, *, seed: int = 0) -> float:
    """The score from gradients: how far those of some rows lie outside of what the others span.

    With ten splits of the rows into nine tenths and one, and the second moments S of the first part's normalised rows
    and V of the other part's rows, it is the mean of tr(S^-1 V). S has its eigenvalues w smoothed,
    (1 - 1e-3) w + 1e-3 mean(w), as there are fewer rows than dimensions. So a teacher scores well whose gradients are
    short and alike.

    Args:
        gradients: Of the student's loss on each of some rows, `[rows, dimensions]`; of many parameters a random
            projection, see `projected`.
        seed: Of the splits.

    Example:
        >>> rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> grace(2 * rows) / grace(rows)
        4.0
    """
    rows = gradients.detach().double()
    generator = torch.Generator().manual_seed(seed)
    held_out = max(1, round(_HELD_OUT * len(rows)))
    scores = []
    for _ in range(_SPLITS):
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        test, train = rows[order[:held_out]], rows[order[held_out:]]
        train = train / train.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        values, vectors = torch.linalg.eigh(train.T @ train / len(train))
        values = (1.0 - _SMOOTHING) * values.clamp(min=0.0) + _SMOOTHING * values.clamp(min=0.0).mean()
        scores.append(float(((test @ vectors).square().mean(0) / values).sum()))
    return sum(scores) / len(scores)


def projected(gradients: Tensor, *, seed: int = 0) -> Tensor:
    """Gradients of many parameters in fewer dimensions, by random signs: lengths and angles stay about as they are.

    Args:
        gradients: `[rows, parameters]`.
        seed: Of the signs.

    Returns:
        `[rows, 512]`; as they are where there are no more parameters.

    Source: Achlioptas, "Database-friendly random projections" (2003).
    """
    parameters = gradients.shape[-1]
    if parameters <= DIMENSIONS:
        return gradients
    generator = torch.Generator().manual_seed(seed)
    found: Tensor = gradients.new_zeros(len(gradients), DIMENSIONS)
    for begin in range(0, parameters, 2**14):  # the signs of all parameters at once may not fit
        part = gradients[:, begin : begin + 2**14]
        signs = torch.randint(0, 2, (part.shape[-1], DIMENSIONS), generator=generator) * 2 - 1
        found += part @ signs.to(part)
    return found.mul_(DIMENSIONS**-0.5)
