"""The student as a probe sees it: a copy, so that the one that will train stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.flops import forward_flops, step_flops
from headstart.distill.heads.several import Several, outputs_of
from headstart.distill.inputs import call, device_of, each_tensor, first_tensor, logits_in, projection_in, tensors
from headstart.distill.pool.forward import named_inputs
from headstart.distill.pool.teacher import Teacher
from headstart.distill.projection import Logits, Projection, as_logits
from headstart.errors import HeadstartError
from headstart.timing import quickest

Outputs = Logits | Several
Forward = Callable[[nn.Module, Any], Outputs]


def outputs_in(model: nn.Module, inputs: Any) -> Outputs:
    """What a model gives: logits, `logits`, or the first of a tuple.

    Raises:
        HeadstartError: There are none.
    """
    given = call(model, inputs)
    found = projection_in(given) or logits_in(given)
    if found is None and type(given) in (tuple, list) and given and isinstance(given[0], Tensor):
        found = given[0]
    if found is None:
        raise HeadstartError(
            f"the student's forward gave {type(given).__name__}, and no logits; it must return a tensor or an object "
            "with `logits`, or give forward=lambda model, inputs: ..., which for several heads returns them by name"
        )
    return found


class StudentCopy:
    """A copy of the student, to be asked, counted and timed.

    Args:
        student: The module; it is not touched.
        forward: Gives its logits, from the module and inputs.
        autocast: Dtype that it is computed in under autocast; None: as the surrounding code has it.

    Raises:
        HeadstartError: It cannot be copied.
    """

    def __init__(self, student: nn.Module, forward: Forward, autocast: torch.dtype | None) -> None:
        try:
            self.module = copy.deepcopy(student)
        except Exception as error:
            raise HeadstartError(
                f"the student ({type(student).__name__}) cannot be copied ({error}), and a probe must not touch the "
                "one that trains; give the module inside its wrappers"
            ) from error
        self._forward, self._autocast = forward, autocast

    def outputs(self, inputs: Any) -> Outputs:
        """What it says in eval mode, without gradient."""
        self.module.eval()
        with torch.no_grad():
            return self.asked(inputs)

    def asked(self, inputs: Any) -> Outputs:
        """What it says, in the mode that it is in."""
        with self._precision(inputs):
            return self._forward(self.module, each_tensor(Tensor.clone, inputs))  # copies: it may write into them

    def flops(self, inputs: Any) -> int | None:
        """Of a forward and backward; None where they cannot be counted."""
        return _counted(lambda: step_flops(self.module, inputs, self._summed))

    def step_seconds(self, inputs: Any) -> float:
        """Of a forward and backward in train mode, the quickest of a few."""
        self.module.train()

        def step() -> None:
            with self._precision(inputs):
                total = as_logits(self._summed(self.module, inputs)).sum()
            total.backward()  # type: ignore[no-untyped-call]
            self.module.zero_grad(set_to_none=True)

        return quickest(step, device_of(inputs))

    def _summed(self, model: nn.Module, inputs: Any) -> Logits:
        """The logits of all heads as one thing that can be summed."""
        given = self._forward(model, inputs)
        if isinstance(given, Tensor | Projection):
            return given
        return torch.stack([head.logits.sum() for head in outputs_of(given, None)[1]])

    def _precision(self, inputs: Any) -> AbstractContextManager[Any]:
        given = first_tensor(inputs)
        if self._autocast is None or given is None:
            return nullcontext()
        return torch.autocast(given.device.type, dtype=self._autocast)


def teacher_flops(teacher: Teacher, inputs: Any) -> int | None:
    """Of a teacher's forward on a batch as the student is given it; None where they cannot be counted."""

    def whole(model: nn.Module, given: Any) -> Logits:
        outputs = call(model, given)
        projection = projection_in(outputs)
        if projection is not None:
            return projection
        return torch.stack([one.sum() for one in tensors(outputs) if one.is_floating_point()])

    prepared = teacher.prepared(inputs)
    if isinstance(prepared, Mapping):
        prepared = named_inputs(teacher.module, prepared, teacher.name)
    return _counted(lambda: forward_flops(teacher.module, prepared, whole))


def _counted(count: Callable[[], int]) -> int | None:
    try:
        return count() or None
    except Exception:  # an unknown operator; or it looks at values, which counting does without
        return None
