"""What the Distiller tells about its last call."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LastCall:
    """What the last distilled call did. Reading a loss synchronises the device; keeping this object does not.

    Attributes:
        step: The optimiser step it belonged to.
        teachers: Names of the teachers asked.
        weight: The distillation weight w used.
    """

    step: int
    teachers: tuple[str, ...]
    weight: float
    _task: Tensor
    _distill: Tensor

    @property
    def task_loss(self) -> float:
        """The task loss, before weighting."""
        return float(self._task)

    @property
    def distill_loss(self) -> float:
        """The distillation loss, before weighting."""
        return float(self._distill)
