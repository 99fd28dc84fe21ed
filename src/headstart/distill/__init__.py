"""The core: losses, window, pool and Distiller. Takes modules and tensors; needs torch only."""

from headstart.distill.distiller import Distiller
from headstart.distill.losses import LOSSES, dist, dkd, jsd, kl, mse, reverse_kl, standardized
from headstart.distill.pool import TeacherPool, average_logits
from headstart.distill.teacher import Teacher
from headstart.distill.window import Window

__all__ = [
    "LOSSES",
    "Distiller",
    "Teacher",
    "TeacherPool",
    "Window",
    "average_logits",
    "dist",
    "dkd",
    "jsd",
    "kl",
    "mse",
    "reverse_kl",
    "standardized",
]
