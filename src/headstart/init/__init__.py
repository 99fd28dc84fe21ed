"""Weights from an older model, also one of another shape. Takes modules; needs torch only."""

from headstart.init.inherited import Inherited, InheritedTensor
from headstart.init.init_from import init_from

__all__ = ["Inherited", "InheritedTensor", "init_from"]
