"""A look at teachers before training."""

from headstart.distill.probing.auto import CAP, Auto, auto
from headstart.distill.probing.choice import Choice, choose
from headstart.distill.probing.probe import probe
from headstart.distill.probing.record import COLUMNS, Probe, TeacherProbe

__all__ = ["CAP", "COLUMNS", "Auto", "Choice", "Probe", "TeacherProbe", "auto", "choose", "probe"]
