"""The doctor: a few batches tell whether a distillation is set up as it should be, before hours are spent."""

from headstart.teachers.doctor.check import Check
from headstart.teachers.doctor.examine import doctor

__all__ = ["Check", "doctor"]
