"""The teachers: each one, which of them is drawn at a step, and where they wait."""

from headstart.distill.pool.pool import TeacherPool, average_logits
from headstart.distill.pool.teacher import Teacher

__all__ = ["Teacher", "TeacherPool", "average_logits"]
