"""Task and distillation loss computed together, without a second tensor of the logits' size."""

from headstart.distill.fused.linear import fused_linear_loss, linear_cross_entropy, linear_losses, linear_sparse_loss
from headstart.distill.fused.loss import cross_entropy, fusable, fused_loss, fused_terms
from headstart.distill.fused.sparse import sparse_loss
from headstart.distill.fused.tally import FusedLoss

__all__ = [
    "FusedLoss",
    "cross_entropy",
    "fusable",
    "fused_linear_loss",
    "fused_loss",
    "fused_terms",
    "linear_cross_entropy",
    "linear_losses",
    "linear_sparse_loss",
    "sparse_loss",
]
