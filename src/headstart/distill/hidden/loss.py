"""Aligning a layer of the student with one of a teacher, in the forward that is made anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill.hidden.features import Features, MapFeatures
from headstart.distill.hidden.layers import find_layer
from headstart.distill.hidden.padding import Padding
from headstart.distill.hidden.projection import Membership, new_projection
from headstart.distill.hidden.states import Caught, states_at
from headstart.distill.inputs import call
from headstart.distill.later import together
from headstart.distill.losses import widen
from headstart.distill.nonfinite import NonFiniteFlags, finite_rows
from headstart.distill.outside_graphs import outside_graphs
from headstart.distill.pool.teacher import Teacher
from headstart.distill.window import Window
from headstart.errors import HeadstartError, TeacherError

Alignment: TypeAlias = Literal["cosine", "mse"]


@dataclass(frozen=True)
class LastAligned:
    """What the last call that added something did.

    Attributes:
        step: The optimiser step.
        loss: Between the states, before its weight; a scalar on the device.
        weight: It.
    """

    step: int
    loss: Tensor
    weight: float


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
        map_features: Where layers that give maps have their features if neither their weights nor their modules tell:
            in dimension 1 (`"first"`, `[batch, channels, height, width]`), or the last one. By default that is refused.
        seed: Of the projection's first weights; they take nothing from torch's generator.

    Attributes:
        projection: W, `[teacher's width, student's width]`; None where widths are equal, or the window has closed.
        window: When it is on; may be set.
        features: Where the student's layer has its features.
        teacher_features: The teacher's, likewise.
        last: What the last call that added something did; None before.

    Raises:
        HeadstartError: A layer that does not exist or gives no states, a setting outside its range, or layers that see
            different numbers of rows.
        TeacherError: The teacher is compiled, so that it does not tell what its layers give.

    Example:
        >>> student = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
        >>> teacher = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        >>> inputs = torch.randn(3, 4)
        >>> optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        >>> align = HiddenLoss(student, teacher, inputs, total_steps=10, teacher_layer="2")
        >>> align.join(optimizer)
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
        map_features: MapFeatures | None = None,
        seed: int = 0,
    ) -> None:
        if loss not in get_args(Alignment):
            raise HeadstartError(f"loss={loss!r} is unknown; choose one of {', '.join(get_args(Alignment))}")
        if map_features not in (None, *get_args(MapFeatures)):
            raise HeadstartError(f"map_features={map_features!r} is unknown; choose 'first', 'last', or leave it out")
        if weight < 0 or total_steps < 1:
            raise HeadstartError(f"weight={weight} and total_steps={total_steps}: the first must not be negative, the "
                                 "second at least 1")  # fmt: skip
        self.window = Window(start=start, stop=stop, ramp_down=stop - start if falling else 0.0)
        self.total_steps, self.weight, self._loss, self._step = total_steps, weight, loss, 0
        self.last: LastAligned | None = None
        self._teacher: Teacher | None = _readable(teacher if isinstance(teacher, Teacher) else Teacher(teacher))
        self.layer, own = find_layer(student, layer, whose="student")
        self.teacher_layer, self._theirs = find_layer(self._teacher.module, teacher_layer, whose="teacher")
        paths = (self.layer, self.teacher_layer)
        self.features, self.teacher_features = (Features(path, map_features) for path in paths)
        self._overheard, self._seen = Caught(self.teacher_features), Caught(self.features, learning=True)
        self._padding = Padding(student, self.layer)
        self._flags = NonFiniteFlags([self._teacher.name])
        seen = self._first_states(student, own, inputs)
        given = self.ask(inputs, seen.device)
        self._check_rows(seen, given)
        self.projection = new_projection(seen, given, seed)
        self._member = None if self.projection is None else Membership(self.projection, self.layer)
        self._hook = own.register_forward_hook(self._seen.keep)
        self._close_if_over()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The projection, where there is one, for optimisers that `join` is nothing for."""
        return iter([] if self.projection is None else [self.projection])

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        """Have an optimiser train the projection, where there is one, in a group of its own that does not decay.

        When the window closes it is taken out again, and its group stays, empty. Call it before a scheduler of learning
        rates is made, which counts the groups. A checkpoint's state is loaded into this and the optimiser in any order.

        Raises:
            HeadstartError: It is in another one already.
        """
        if self._member is not None:
            self._member.join(optimizer)

    @property
    def teacher(self) -> Teacher | None:
        """The teacher; None once the window has closed."""
        return self._teacher

    @property
    def active(self) -> bool:
        """Whether the present step is in the window."""
        return self.window.scale(self._step, self.total_steps) > 0.0

    @property
    def current_step(self) -> int:
        """The optimiser step now under way, counted from 0. Set it, instead of calling `step`, where a loop counts."""
        return self._step

    @current_step.setter
    def current_step(self, step: int) -> None:
        if step == self._step:
            return
        self._flags.hand_over(self._step, distilled=self.active)
        aligned = self.last is not None and self.last.step == self._step
        if self._member is not None and aligned:
            self._member.check()
        if self.projection is not None:  # a loop may clear those of its model alone, as transformers' Trainer does
            self.projection.grad = None
        self._step = int(step)
        over = self.window.closed(self._step, self.total_steps)
        if self._member is not None and over:
            self._member.check_at_the_end()
        self._close_if_over()

    def step(self) -> None:
        """Count an optimiser step. Call it after each real one.

        Raises:
            HeadstartError: The projection has had gradients in several steps, or in all of its window, and no optimiser
                has changed it.
            TeacherError: The teacher gave states that are not finite in the step before.
        """
        self.current_step = self._step + 1

    @contextmanager
    def overhear(self) -> Iterator[None]:
        """Take the teacher's states from a forward that somebody else has it make of the same batch, in this block.

        For loops in which a Distiller asks the same `Teacher`: it then runs once, for its logits and for its states.

        Example:
            >>> from headstart.distill import Distiller
            >>> student, teacher = (nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))) for _ in range(2))
            >>> inputs, labels, teacher = torch.randn(3, 4), torch.tensor([0, 1, 2]), Teacher(teacher)
            >>> align = HiddenLoss(student, teacher, inputs, total_steps=10)
            >>> distiller = Distiller(teacher, total_steps=10)
            >>> with align.overhear():
            ...     loss = distiller.loss(student(inputs), labels, inputs)
            >>> loss = align(loss, inputs)
        """
        self._overheard.take()
        if self._teacher is None or not self.active or not torch.is_grad_enabled():
            yield
            return
        with self._theirs.register_forward_hook(self._overheard.keep):
            yield

    @outside_graphs
    def __call__(self, loss: Tensor, inputs: Any, *, keep: Tensor | None = None, share: float | Tensor = 1.0) -> Tensor:
        """Add the loss between the states that the student has just made and the teacher's.

        Args:
            loss: The task loss, a scalar. It comes back itself outside the window and where gradients are off.
            inputs: What the student was given.
            keep: Rows that count, `[...]` in the order of the states. By default those of the inputs' `attention_mask`
                (`decoder_attention_mask` for a decoder that has an encoder), if they have one of the states' shape
                `[batch, tokens]`, as padding means nothing; else all.
            share: The part of its optimiser step that this batch is, by which the loss between states is multiplied.
                For loops that add up micro-batches and divide none of them, as their task loss is divided by the rows
                of the whole step already: `align.size(inputs)` over its sum over the micro-batches, or 1 over their
                number. Where the loop divides the result itself it stays 1.

        Raises:
            HeadstartError: The student was not called before, or rows or widths do not fit.

        Example:
            >>> student, teacher = (nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))) for _ in range(2))
            >>> step = [torch.randn(3, 4), torch.randn(1, 4)]  # micro-batches
            >>> align = HiddenLoss(student, teacher, step[0], total_steps=10)
            >>> rows = sum(align.size(inputs) for inputs in step)
            >>> for inputs in step:
            ...     loss = align(student(inputs).square().sum() / 4, inputs, share=align.size(inputs) / rows)
            ...     loss.backward()
        """
        seen = self._seen.take()
        scale = self.window.scale(self._step, self.total_steps)
        if scale == 0.0 or not torch.is_grad_enabled() or self._teacher is None:
            return loss
        if seen is None:
            raise HeadstartError(
                f"the student's layer {self.layer!r} was not called since the last loss; call the student first, with "
                "gradients on (reentrant checkpointing has them off), and the loss once for each of its forwards"
            )
        if self._member is not None:
            self._member.to(seen.device)
        overheard = self._overheard.take()
        given = self.ask(inputs, seen.device) if overheard is None else overheard.flatten(0, -2).to(seen.device)
        keep = self._padding.real(inputs, seen.shape[:-1]) if keep is None else keep
        between = self._between(seen.flatten(0, -2), given, keep)
        self.last = LastAligned(self._step, between.detach(), self.weight * scale)
        return loss + self.weight * scale * share * between

    def size(self, inputs: Any) -> Tensor | int:
        """What a batch weighs among the micro-batches of its optimiser step, for `share`.

        The rows that the mask of its inputs keeps; without one, the entries of the student's main input, or of the
        first tensor, which rows are in proportion to.
        """
        return self._padding.size(inputs)

    def ask(self, inputs: Any, device: torch.device) -> Tensor:
        """The teacher's states for a batch, `[rows, features]`; it runs up to its layer, without gradient.

        Args:
            inputs: What the student is given.
            device: Where they are wanted.

        Raises:
            TeacherError: Its forward does not call the layer, or the window has closed.
        """
        teacher = self._teacher
        if teacher is None:
            raise TeacherError(f"step {self._step}: the teacher was let go when the window closed; make a new one")
        teacher.to(device)
        given = states_at(self._theirs, self.teacher_features, lambda: teacher.logits(inputs))
        if given is None:
            raise TeacherError(f"teacher {teacher.name!r}: its forward calls no layer {self.teacher_layer!r}")
        return given.flatten(0, -2).to(device)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs: the step, and the projection."""
        weight = None if self.projection is None else self.projection.detach().clone()
        return {"current_step": self._step, "projection": weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was taken.

        Raises:
            HeadstartError: It is of layers of other widths.
        """
        self._step = int(state["current_step"])
        saved, own = state["projection"], self.projection
        if saved is not None and (own is None or saved.shape != own.shape):
            raise HeadstartError(
                f"the checkpoint's projection is {tuple(saved.shape)}, and this one "
                f"{None if own is None else tuple(own.shape)}; go on with the same layers of the same models"
            )
        if saved is not None and own is not None:
            with torch.no_grad():
                own.copy_(saved)
        if self._member is not None:
            self._member.loaded()
        self._close_if_over()

    def _between(self, student: Tensor, teacher: Tensor, keep: Tensor | None) -> Tensor:
        self._check_rows(student, teacher)
        if keep is not None and keep.numel() != len(student):
            raise HeadstartError(
                f"keep={tuple(keep.shape)} is not a mask of the {len(student)} rows of states of {self.layer!r}"
            )
        with torch.autocast(student.device.type, enabled=False):
            own, given = widen(student), widen(teacher)
            own = own if self.projection is None else F.linear(own, self.projection.to(own.dtype))
            finite = finite_rows(given)
            self._flags.mark(0, finite)
            counted = finite if keep is None else finite & keep.flatten().to(finite.device).bool()
            given = torch.where(counted.unsqueeze(-1), given, 0.0)
            if self._loss == "cosine":
                values = 1.0 - F.cosine_similarity(own, given, dim=-1)
            else:
                values = (own - given).square().mean(-1)
            return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)

    def _check_rows(self, student: Tensor, teacher: Tensor) -> None:
        if len(student) != len(teacher):
            raise HeadstartError(
                f"the student's layer {self.layer!r} gives {len(student)} rows of states, the teacher's "
                f"{self.teacher_layer!r} {len(teacher)}; take layers that see as many tokens, or places of a map"
            )

    def _first_states(self, student: nn.Module, layer: nn.Module, inputs: Any) -> Tensor:
        modes, caught = [(module, module.training) for module in student.modules()], Caught(self.features)
        student.eval()
        try:
            with torch.no_grad(), layer.register_forward_hook(caught.keep):
                call(student, inputs)
        finally:
            for module, training in modes:
                module.training = training
            _in_parts_again(student)
        seen = caught.take()
        if seen is None:
            raise HeadstartError(f"the student's forward does not call layer {self.layer!r}; take another")
        return seen.flatten(0, -2)

    def _close_if_over(self) -> None:
        if self._teacher is None or not self.window.closed(self._step, self.total_steps):
            return
        self._hook.remove()
        self._seen.take()
        self._overheard.take()
        if self._member is not None:
            self._member.leave()
        self._teacher, self._theirs, self.projection = None, nn.Identity(), None
        self._flags.check()


def _in_parts_again(student: nn.Module) -> None:
    """Of a student that FSDP2 shards, whose forward may leave layers whole until a backward comes, and none does."""
    if together():
        from torch.distributed.fsdp import FSDPModule

        for module in student.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _readable(teacher: Teacher) -> Teacher:
    if teacher.compiled:
        raise TeacherError(
            f"teacher {teacher.name!r} is compiled, so that it does not tell what its layers give; leave compile out"
        )
    return teacher
