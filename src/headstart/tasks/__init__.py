"""Tasks: model, data, task loss and metric. They know nothing of distillation."""

from headstart.tasks.task import Batch, Evaluation, FewViews, Mixed, Task

__all__ = ["Batch", "Evaluation", "FewViews", "Mixed", "Task"]
