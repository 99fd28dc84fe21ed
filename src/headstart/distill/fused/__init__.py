"""Task and distillation loss computed together, without a second tensor of the logits' size."""

from headstart.distill.fused.linear import Projection, fused_linear_loss
from headstart.distill.fused.loss import cross_entropy, fusable, fused_loss
from headstart.distill.fused.sparse import sparse_loss
from headstart.distill.fused.tally import FusedLoss

__all__ = ["FusedLoss", "Projection", "cross_entropy", "fusable", "fused_linear_loss", "fused_loss", "sparse_loss"]
