"""What teachers give for a batch: whole logits or a sparse form, computed now or read from a cache."""

from headstart.distill.targets.source import Keys, Target, TargetSource, Use

__all__ = ["Keys", "Target", "TargetSource", "Use"]
