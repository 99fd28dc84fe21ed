"""A frozen model whose outputs the student also learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import TeacherError


class Teacher:
    """A module that is kept frozen and in eval mode, with what belongs to its side of the input.

    The module's parameters stop requiring gradients. It is put back into eval mode before each forward, so that a
    parent's `.train()` cannot switch dropout on or let BatchNorm statistics drift.

    Args:
        module: Any module that maps the student's inputs to logits, or to an object with `logits`.
        name: Used in messages and records; the class's name by default.
        prepare: Applied to the inputs first, where the teacher was trained on other ones (normalisation, resolution).
        autocast: Dtype to run under autocast with; `None` (default): whatever the surrounding code runs under.
            Frameworks that autocast only the student's forward (Accelerate) need it named here.

    Raises:
        TeacherError: `module` is no torch module.

    Example:
        >>> teacher = Teacher(nn.Linear(2, 3), name="old")
        >>> teacher.logits(torch.zeros(1, 2)).shape, teacher.module.training
        (torch.Size([1, 3]), False)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str | None = None,
        prepare: Callable[[Any], Any] | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TeacherError(
                f"a teacher must be a torch module, not {type(module).__name__}; load one with headstart.load_teacher"
            )
        self.module = module.eval().requires_grad_(False)
        self.name = name or type(module).__name__
        self.prepare = prepare
        self.autocast = autocast

    def logits(self, inputs: Any) -> Tensor:
        """The teacher's logits, `[..., classes]`, without gradient, in whatever dtype the module gives.

        Args:
            inputs: What the student was given: a tensor, a tuple of positional or a mapping of named arguments.

        Raises:
            TeacherError: The result of the forward holds no logits. What the forward itself raises passes through, with
                a note that names the teacher.
        """
        if any(module.training for module in self.module.modules()):
            self.module.eval()
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        # no_grad and not inference_mode: compiled under the latter, a teacher breaks later training (pytorch #135892).
        with torch.no_grad(), self._precision(inputs):
            try:
                outputs = self._forward(inputs)
            except Exception as error:
                error.add_note(f"in the forward of teacher {self.name!r}")
                raise
            return self._find_logits(outputs)

    def to(self, device: torch.device) -> None:
        """Move the module, if it is elsewhere."""
        parameter = next(self.module.parameters(), None)
        if parameter is not None and parameter.device != device:
            self.module.to(device)

    def _precision(self, inputs: Any) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(_device_type(inputs), dtype=self.autocast)

    def _forward(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return self.module(**inputs)
        if isinstance(inputs, tuple):
            return self.module(*inputs)
        return self.module(inputs)

    def _find_logits(self, outputs: Any) -> Tensor:
        kind = type(outputs).__name__
        if isinstance(outputs, Mapping):
            outputs = outputs.get("logits")
        elif not isinstance(outputs, Tensor):
            outputs = getattr(outputs, "logits", None)
        if not isinstance(outputs, Tensor):
            raise TeacherError(
                f"teacher {self.name!r}: its forward gave no logits; it must return a tensor, or an object with "
                f"`logits`, not {kind}"
            )
        return outputs


def _device_type(inputs: Any) -> str:
    if isinstance(inputs, Mapping):
        inputs = tuple(inputs.values())
    candidates = inputs if isinstance(inputs, tuple) else (inputs,)
    return next((x.device.type for x in candidates if isinstance(x, Tensor)), "cpu")
