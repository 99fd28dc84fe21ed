"""Distillation losses as pure functions: logits in, one value per row out.

Every loss takes student and teacher logits of shape `[rows, classes]` and returns the loss of each row, shape `[rows]`,
in `promote_types(dtype, float32)` (so fp64 stays fp64, and half precision never reaches a reduction). Those of labels
and values give one for each output instead. The mean over rows is the caller's. Factors of T^2 keep the gradient's size
independent of the temperature (Hinton et al., arXiv 1503.02531, section 2).
"""

from headstart.distill.losses.correlation import dist, standardized
from headstart.distill.losses.decoupled import dkd
from headstart.distill.losses.distances import huber, mse
from headstart.distill.losses.divergences import jsd, kl, reverse_kl
from headstart.distill.losses.logits import widen
from headstart.distill.losses.table import LOSSES, Average, Loss, LossFunction

__all__ = [
    "LOSSES",
    "Average",
    "Loss",
    "LossFunction",
    "dist",
    "dkd",
    "huber",
    "jsd",
    "kl",
    "mse",
    "reverse_kl",
    "standardized",
    "widen",
]
