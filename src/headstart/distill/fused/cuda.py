"""When the Triton kernel does the work of `rows.fill`, and how it is called."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext

import torch
from torch import Tensor

from headstart.distill.fused.terms import Rows, Terms
from headstart.distill.losses import kl

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def applies(rows: Rows, terms: Terms) -> bool:
    """Whether the kernel can compute these rows: on CUDA the task loss alone, or with KL from one teacher."""
    objective = terms.objective
    known = objective is None or (
        objective.loss.function is kl and not objective.standardize and len(rows.teachers) == 1
    )
    tensors = (rows.student, *rows.teachers)
    fits = all(tensor.is_cuda and tensor.dtype in _DTYPES and tensor.stride(-1) == 1 for tensor in tensors)
    return known and fits and importlib.util.find_spec("triton") is not None


def fill(rows: Rows, terms: Terms, factors: Tensor, values: Tensor, gradient: Tensor) -> None:
    """Do what `rows.fill` does."""
    from headstart.distill.fused.triton_kernel import launch  # where there is no GPU, Triton is most often missing

    device = rows.student.device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        launch(
            rows.student,
            rows.teachers[0] if rows.teachers else None,
            rows.labels.contiguous(),
            None if rows.keep is None else rows.keep.contiguous(),
            factors,
            values,
            gradient,
            temperature=1.0 if terms.objective is None else terms.objective.temperature,
            label_smoothing=terms.label_smoothing,
        )
