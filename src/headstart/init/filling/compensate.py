"""What is left of a layer's inputs made to give what all of them gave, by least squares."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-3  # of the mean of the second moment's diagonal


def compensated(weight: Tensor, moment: Tensor, kept: Tensor, dim: int) -> Tensor:
    """A weight that reads only some of its inputs, and gives the nearest to what it gave from all of them.

    M' = M S[:, kept] (S[kept, kept] + lambda I)^-1: least squares over the inputs whose second moment S is, with lambda
    1e-3 of the mean of its diagonal.

    Args:
        weight: The source's weight, two dimensions.
        moment: Second moment of its inputs, `[in, in]`.
        kept: The inputs kept, `[kept]`, int64.
        dim: The dimension of `weight` that is read.

    Returns:
        The weight with the kept inputs along `dim`, in the dtype of `weight`.

    Example:
        >>> inputs = torch.tensor([[1.0, 1.0], [2.0, 2.0]])  # the second input is always the first
        >>> compensated(torch.tensor([[1.0, 1.0]]), inputs.T @ inputs, torch.tensor([0]), 1).round(decimals=2)
        tensor([[2.]])
    """
    moment, kept = moment.double(), kept.to(moment.device)
    matrix = weight.to(moment.device).double().movedim(dim, -1)
    ridge = RIDGE * moment.diagonal().mean()
    if ridge == 0:  # the layer is given nothing but zeros: any weight gives the same
        return weight.index_select(dim, kept.to(weight.device))
    part = moment[kept][:, kept] + ridge * torch.eye(len(kept), dtype=moment.dtype, device=moment.device)
    solved: Tensor = torch.linalg.solve(part, moment[kept] @ matrix.T).T
    return solved.movedim(-1, dim).to(weight.device, weight.dtype)
