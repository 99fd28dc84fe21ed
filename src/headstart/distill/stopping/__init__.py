"""A window that opens by itself, when teachers are worth asking, and closes when they no longer help."""

from headstart.distill.stopping.automatic import CAP, WARMUP, AutomaticStop, automatic_stop, latest_stop
from headstart.distill.stopping.opening import Opened, Opening
from headstart.distill.stopping.stopped import Reason, Stopped

__all__ = ["CAP", "WARMUP", "AutomaticStop", "Opened", "Opening", "Reason", "Stopped", "automatic_stop", "latest_stop"]
