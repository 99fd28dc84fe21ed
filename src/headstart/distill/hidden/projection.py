"""The linear map between states of different widths: made, averaged over processes, in an optimiser and out of it."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, distributed, nn

from headstart.distill.later import together
from headstart.errors import HeadstartError

# Aligned steps in which it may stay as it is. GradScaler passes the first ones over, halving 2^16 each time.
_PATIENCE, _PATIENCE_WHEN_JOINED = 8, 20


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
        self._reading: Any = None
        self._still, self._resumed = 0, False
        self._before: Tensor | None = None  # what it was, until it is found to have changed
        self._remember(weight)

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        """Give it to an optimiser; once, however often a loop asks."""
        joined = None if self._optimizer is None else self._optimizer()
        optimizer = getattr(optimizer, "optimizer", optimizer)  # out of a wrapper, such as Accelerate's
        if joined is optimizer:
            return
        if joined is not None:
            raise HeadstartError("the projection is in another optimiser already, and can be in one only")
        # It does not decay: a cosine does not see how long it is, so that decay would only raise its rate. Where it is
        # gone already, as in a loop that goes on, its group is there nevertheless, and empty as it was left.
        weights = [] if self._weight is None else [self._weight]
        optimizer.add_param_group({"params": weights, "weight_decay": 0.0})
        self._optimizer = weakref.ref(optimizer)
        if self._weight is not None:
            self._reading = optimizer.register_load_state_dict_pre_hook(self._as_saved)

    def leave(self) -> None:
        """Take it out. Its group stays, and is empty, as schedulers count groups."""
        weight, self._weight = self._weight, None
        self._before = None
        if weight is not None:
            self._take_out(weight)
        if self._reading is not None:
            self._reading.remove()

    def _take_out(self, weight: nn.Parameter) -> None:
        optimizer = None if self._optimizer is None else self._optimizer()
        if optimizer is None:
            return
        for group in optimizer.param_groups:
            group["params"] = [one for one in group["params"] if one is not weight]
        optimizer.state.pop(weight, None)

    def _as_saved(self, optimizer: Any, state: dict[str, Any]) -> None:
        """Before an optimiser is loaded: of one saved after the window, the projection's group is empty.

        So it does not matter which is loaded first, the optimiser, as Accelerate has it, or the loss between states.
        """
        weight, saved = self._weight, state["param_groups"]
        if weight is None or len(saved) != len(optimizer.param_groups):
            return
        for group, was in zip(optimizer.param_groups, saved, strict=True):
            if not was["params"] and any(one is weight for one in group["params"]):
                self._take_out(weight)

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

    def loaded(self) -> None:
        """Told when a checkpoint's values came in, perhaps for the last few steps of its life."""
        if self._weight is not None:
            self._still, self._resumed = 0, True
            self._remember(self._weight)

    def _remember(self, weight: nn.Parameter) -> None:
        self._version, self._before = weight._version, weight.detach().clone()

    def check(self) -> None:
        """Look, after an aligned step, whether anyone has changed it.

        Raises:
            HeadstartError: Nobody has for several steps.
        """
        weight, before = self._weight, self._before
        if weight is None or before is None or (self._optimizer is None and weight.grad is None):
            return
        # Its version does not tell of optimisers that write into `weight.data`, or in kernels of their own.
        if weight._version != self._version or not torch.equal(weight.detach().to(before.device), before):
            self._before = None
            return
        self._still += 1
        if self._still >= (_PATIENCE if self._optimizer is None else _PATIENCE_WHEN_JOINED):
            raise self._unchanged()

    def check_at_the_end(self) -> None:
        """Look, when the window closes, whether anyone has ever changed it.

        Raises:
            HeadstartError: Nobody has, in any of its steps.
        """
        if self._weight is not None and self._before is not None and self._still and not self._resumed:
            raise self._unchanged()

    def _unchanged(self) -> HeadstartError:
        because, remedy = "no optimiser has it", "Give it to yours, where it is made: align.join(optimizer)"
        if self._optimizer is not None:
            because, remedy = "the optimiser that it joined makes no steps", "Join the one that the loop steps"
        many = f"{self._still} step{'s' if self._still > 1 else ''}"
        return HeadstartError(f"the projection of {self._layer!r} has not changed in {many}: {because}. {remedy}")


def _average_over_processes(weight: Tensor) -> None:
    """The gradient's mean over processes: of sums over micro-batches, too, as the mean of means is the mean."""
    if weight.grad is not None and together():
        distributed.all_reduce(weight.grad)
        weight.grad /= distributed.get_world_size()
