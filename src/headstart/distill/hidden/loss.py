"""Aligning a layer of the student with one of a teacher, in the forward that is made anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from headstart.distill.hidden.layers import find_layer, states_of
from headstart.distill.inputs import call
from headstart.distill.later import together
from headstart.distill.losses import widen
from headstart.distill.nonfinite import NonFiniteFlags, finite_rows
from headstart.distill.pool.teacher import Teacher
from headstart.distill.window import Window
from headstart.errors import HeadstartError, TeacherError

Alignment: TypeAlias = Literal["cosine", "mse"]

_PATIENCE = 3  # distilled steps in which an optimiser may leave the projection as it is: GradScaler passes some over


class _Reached(Exception):
    pass


class HiddenLoss:
    """Adds a loss between hidden states to the task loss, while its window is open.

    The result is `task + weight * scale * hidden`, where `hidden` is the mean over rows (tokens, places of a map) of
    1 - cos(W s, t), or of the mean over features of (W s - t)^2; s are the states that the student's layer gave in the
    forward just made, t the teacher's for the same inputs, and W a linear map where widths differ. The teacher runs up
    to its layer and no further. As it needs no shared classes or vocabulary, it is for teachers with other ones, too.

    The defaults are the setting of LET (arXiv 2602.05393): a late layer of the teacher to an early one of the student,
    the weight falling linearly from 0.1 to 0 over the window.

    Args:
        student: The student, before anything is wrapped around it.
        teacher: A module, or a `Teacher`. It is frozen.
        inputs: A batch of inputs, or a part of one, from which the widths are learnt: one forward of each, no gradient.
        total_steps: Optimiser steps of the whole training.
        layer: The student's: a path as `named_modules` has it, or a fraction of the depth.
        teacher_layer: The teacher's, likewise.
        loss: `"cosine"` or `"mse"`.
        weight: Of the loss at the window's beginning.
        start: Fraction of training at which the window opens.
        stop: Fraction at which it closes.
        falling: Whether the weight falls linearly over the window; else it stays.
        seed: Of the projection's first weights; they take nothing from torch's generator.

    Attributes:
        projection: W, `[teacher's width, student's width]`; None where widths are equal, or the window has closed.

    Raises:
        HeadstartError: A layer that does not exist or gives no states, or a setting outside its range.

    Example:
        >>> student = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
        >>> teacher = nn.Sequential(*(nn.Linear(4, 4) for _ in range(2)))
        >>> inputs = torch.randn(3, 4)
        >>> align = HiddenLoss(student, teacher, inputs, total_steps=10)
        >>> optimizer = torch.optim.SGD([*student.parameters(), *align.parameters()], lr=0.1)
        >>> loss = align(student(inputs).square().mean(), inputs)
        >>> loss.backward(); optimizer.step(); align.step()
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Teacher,
        inputs: Any,
        *,
        total_steps: int,
        layer: str | float = 0.25,
        teacher_layer: str | float = 1.0,
        loss: Alignment = "cosine",
        weight: float = 0.1,
        start: float = 0.0,
        stop: float = 1.0,
        falling: bool = True,
        seed: int = 0,
    ) -> None:
        if loss not in get_args(Alignment):
            raise HeadstartError(f"loss={loss!r} is unknown; choose one of {', '.join(get_args(Alignment))}")
        if weight < 0 or total_steps < 1:
            raise HeadstartError(f"weight={weight} and total_steps={total_steps}: the first must not be negative, the "
                                 "second at least 1")  # fmt: skip
        self.window = Window(start=start, stop=stop, ramp_down=stop - start if falling else 0.0)
        self.total_steps, self.weight, self._loss, self._step = total_steps, weight, loss, 0
        self._teacher: Teacher | None = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
        self._name, own = find_layer(student, layer, whose="student")
        self._teachers_name, theirs = find_layer(self._teacher.module, teacher_layer, whose="teacher")
        self._seen: Tensor | None = None
        self._given: Tensor | None = None
        self._flags = NonFiniteFlags([self._teacher.name])
        self._layer: nn.Module | None = theirs
        self._hook = own.register_forward_hook(self._see)
        self.projection: nn.Parameter | None = self._projection(student, inputs, seed)
        self._still = 0
        self._version = 0 if self.projection is None else self.projection._version
        self._close_if_over()

    def parameters(self) -> Iterator[nn.Parameter]:
        """What has to be given to the optimiser beside the student's own: `optimizer.add_param_group(...)`."""
        return iter([] if self.projection is None else [self.projection])

    @property
    def active(self) -> bool:
        """Whether the present step is in the window."""
        return self.window.scale(self._step, self.total_steps) > 0.0

    def __call__(self, loss: Tensor, inputs: Any, *, keep: Tensor | None = None) -> Tensor:
        """Add the loss between the states that the student has just made and the teacher's.

        Args:
            loss: The task loss, a scalar. It comes back itself outside the window and where gradients are off.
            inputs: What the student was given.
            keep: Rows that count, `[...]` of bool in the order of the states, such as a mask of attention. Default all.

        Raises:
            HeadstartError: The student was not called before, or rows or widths do not fit.
        """
        seen, self._seen = self._seen, None
        scale = self.window.scale(self._step, self.total_steps)
        if scale == 0.0 or not torch.is_grad_enabled() or self._teacher is None:
            return loss
        if seen is None:
            raise HeadstartError(
                f"the student's layer {self._name!r} was not called since the last loss; call the student first, with "
                "gradients on, and the loss once for each of its forwards"
            )
        return loss + self.weight * scale * self._between(seen, self._ask(inputs, seen.device), keep)

    def step(self) -> None:
        """Count an optimiser step. Call it after each real one.

        Raises:
            HeadstartError: The projection has had gradients in several steps, and no optimiser has changed it.
            TeacherError: The teacher gave states that are not finite in the step before.
        """
        self._flags.hand_over(self._step, distilled=self.active)
        self._check_optimised()
        self._step += 1
        self._close_if_over()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs: the step, and the projection."""
        weight = None if self.projection is None else self.projection.detach().clone()
        return {"current_step": self._step, "projection": weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was taken."""
        self._step = int(state["current_step"])
        if self.projection is not None and state["projection"] is not None:
            with torch.no_grad():
                self.projection.copy_(state["projection"])
        self._close_if_over()

    def _between(self, student: Tensor, teacher: Tensor, keep: Tensor | None) -> Tensor:
        if len(student) != len(teacher):
            raise HeadstartError(
                f"the student's layer {self._name!r} gives {len(student)} rows of states, the teacher's "
                f"{self._teachers_name!r} {len(teacher)}; take layers that see as many tokens, or places of a map"
            )
        with torch.autocast(student.device.type, enabled=False):
            own, given = widen(student), widen(teacher)
            own = own if self.projection is None else F.linear(own, self.projection.to(own.dtype))
            finite = finite_rows(given)
            self._flags.mark(0, finite)
            counted = finite if keep is None else finite & keep.flatten()
            given = torch.where(counted.unsqueeze(-1), given, 0.0)
            if self._loss == "cosine":
                values = 1.0 - F.cosine_similarity(own, given, dim=-1)
            else:
                values = (own - given).square().mean(-1)
            return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)

    def _ask(self, inputs: Any, device: torch.device) -> Tensor:
        assert self._teacher is not None and self._layer is not None
        self._teacher.to(device)
        self._given = None
        with self._layer.register_forward_hook(self._reach), suppress(_Reached):  # others may ask this teacher, too
            self._teacher.logits(inputs)
        given, self._given = self._given, None
        if given is None:
            raise TeacherError(f"teacher {self._teacher.name!r}: its forward calls no layer {self._teachers_name!r}")
        return given.to(device)

    def _see(self, module: nn.Module, args: Any, output: Any) -> None:
        self._seen = states_of(output, self._name)

    def _reach(self, module: nn.Module, args: Any, output: Any) -> None:
        self._given = states_of(output, self._teachers_name)
        raise _Reached

    def _projection(self, student: nn.Module, inputs: Any, seed: int) -> nn.Parameter | None:
        """Made where widths differ; in several processes the same in all, with gradients averaged over them."""
        training = student.training
        student.eval()
        try:
            with torch.no_grad():
                call(student, inputs)
        finally:
            student.train(training)
        seen, self._seen = self._seen, None
        if seen is None:
            raise HeadstartError(f"the student's forward does not call layer {self._name!r}; take another")
        given = self._ask(inputs, seen.device)
        if seen.shape[-1] == given.shape[-1]:
            return None
        shape, generator = (given.shape[-1], seen.shape[-1]), torch.Generator().manual_seed(seed)
        values = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        weight = nn.Parameter(values.to(seen.device, torch.promote_types(seen.dtype, torch.float32)))
        weight.register_post_accumulate_grad_hook(_average_over_processes)  # type: ignore[no-untyped-call]
        return weight

    def _check_optimised(self) -> None:
        weight = self.projection
        if weight is None or not self.active:
            return
        changed, self._version = weight._version != self._version, weight._version
        self._still = 0 if changed else self._still + 1
        if self._still >= _PATIENCE:
            raise HeadstartError(
                f"the projection of {self._name!r} has not changed in {_PATIENCE} steps: no optimiser has it. Give it "
                "to yours: optimizer.add_param_group({'params': [*align.parameters()]})"
            )

    def _close_if_over(self) -> None:
        if self._teacher is None or not self.window.closed(self._step, self.total_steps):
            return
        self._hook.remove()
        self._teacher, self._layer, self._seen, self.projection = None, None, None, None
        self._flags.check()


def _average_over_processes(weight: Tensor) -> None:
    """The gradient's mean over processes: of sums over micro-batches, too, as the mean of means is the mean."""
    if weight.grad is not None and together():
        distributed.all_reduce(weight.grad)
        weight.grad /= distributed.get_world_size()
