"""The linear map between states of different widths: made, averaged over processes, in an optimiser and out of it."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, distributed, nn

from headstart.distill.later import together
from headstart.errors import HeadstartError

_PATIENCE = 8  # aligned steps in which an optimiser may leave it as it is: GradScaler passes the first ones over


def new_projection(student: Tensor, teacher: Tensor, seed: int) -> nn.Parameter | None:
    """A map from states like the student's, `[rows, features]`, to states like the teacher's; None for equal widths.

    In several processes it is the same in all, and its gradients are averaged over them.
    """
    shape = (teacher.shape[-1], student.shape[-1])
    if shape[0] == shape[1]:
        return None
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[1] ** 0.5
    weight = nn.Parameter(values.to(student.device, torch.promote_types(student.dtype, torch.float32)))
    weight.register_post_accumulate_grad_hook(_average_over_processes)  # type: ignore[no-untyped-call]
    return weight


class Membership:
    """Whether an optimiser has the projection, and how it is taken out of it again, for good.

    Args:
        weight: The projection.
        layer: The student's, for messages.
    """

    def __init__(self, weight: nn.Parameter, layer: str) -> None:
        self._weight: nn.Parameter | None = weight
        self._layer = layer
        self._optimizer: weakref.ref[Any] | None = None
        self._still, self._version = 0, weight._version

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        """Give it to an optimiser; once, however often a loop asks."""
        joined = None if self._optimizer is None else self._optimizer()
        if joined is optimizer:
            return
        if joined is not None:
            raise HeadstartError("the projection is in another optimiser already, and can be in one only")
        # It does not decay: a cosine does not see how long it is, so that decay would only raise its rate. Where it is
        # gone already, as in a loop that goes on, its group is there nevertheless, and empty as it was left.
        weights = [] if self._weight is None else [self._weight]
        optimizer.add_param_group({"params": weights, "weight_decay": 0.0})
        self._optimizer = weakref.ref(optimizer)

    def leave(self) -> None:
        """Take it out. Its group stays, and is empty, as schedulers count groups."""
        optimizer = None if self._optimizer is None else self._optimizer()
        weight, self._weight = self._weight, None
        if optimizer is None or weight is None:
            return
        for group in optimizer.param_groups:
            group["params"] = [one for one in group["params"] if one is not weight]
        optimizer.state.pop(weight, None)

    def to(self, device: torch.device) -> None:
        """Follow a student that was moved since the projection was made; all the optimiser has of it comes along."""
        weight = self._weight
        if weight is None or weight.device == device:
            return
        weight.data = weight.data.to(device)
        optimizer = None if self._optimizer is None else self._optimizer()
        state = {} if optimizer is None else optimizer.state.get(weight, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim():
                state[name] = value.to(device)

    def check(self) -> None:
        """Look, after an aligned step, whether anyone has changed it.

        Raises:
            HeadstartError: Nobody has for several steps.
        """
        if self._optimizer is not None or self._weight is None:
            return
        changed, self._version = self._weight._version != self._version, self._weight._version
        self._still = 0 if changed else self._still + 1
        if self._still >= _PATIENCE:
            raise HeadstartError(
                f"the projection of {self._layer!r} has not changed in {_PATIENCE} steps: no optimiser has it. Give it "
                "to yours, where it is made: align.join(optimizer)"
            )


def _average_over_processes(weight: Tensor) -> None:
    """The gradient's mean over processes: of sums over micro-batches, too, as the mean of means is the mean."""
    if weight.grad is not None and together():
        distributed.all_reduce(weight.grad)
        weight.grad /= distributed.get_world_size()
