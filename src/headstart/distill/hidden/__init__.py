"""A loss between hidden states: a layer of the student, and one of a teacher."""

from headstart.distill.hidden.loss import HiddenLoss

__all__ = ["HiddenLoss"]
