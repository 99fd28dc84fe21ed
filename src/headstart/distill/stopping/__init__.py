"""A window that closes by itself, when the teacher no longer helps."""

from headstart.distill.stopping.automatic import CAP, WARMUP, automatic_stop, latest_stop
from headstart.distill.stopping.stopped import Reason, Stopped

__all__ = ["CAP", "WARMUP", "Reason", "Stopped", "automatic_stop", "latest_stop"]
