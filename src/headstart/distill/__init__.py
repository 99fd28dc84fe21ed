"""The core: losses, window, pool and Distiller. Takes modules and tensors; needs torch only."""

from headstart.distill.distiller import Distiller
from headstart.distill.fused import cross_entropy, fused_linear_loss, fused_loss
from headstart.distill.hidden import HiddenLoss
from headstart.distill.losses import LOSSES, dist, dkd, huber, jsd, kl, mse, reverse_kl, standardized
from headstart.distill.objective import build_objective
from headstart.distill.pool.pool import TeacherPool, average_logits
from headstart.distill.pool.teacher import Teacher
from headstart.distill.projection import Projection
from headstart.distill.window import Window

__all__ = [
    "LOSSES",
    "Distiller",
    "HiddenLoss",
    "Projection",
    "Teacher",
    "TeacherPool",
    "Window",
    "average_logits",
    "build_objective",
    "cross_entropy",
    "dist",
    "dkd",
    "fused_linear_loss",
    "fused_loss",
    "huber",
    "jsd",
    "kl",
    "mse",
    "reverse_kl",
    "standardized",
]
