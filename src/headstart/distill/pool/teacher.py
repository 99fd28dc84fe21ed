"""A frozen model whose outputs the student also learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.heads.several import Names
from headstart.distill.inputs import each_image, each_tensor, first_tensor, resize, wrapped_in
from headstart.distill.pool.fold import fold_batch_norms
from headstart.distill.pool.forward import Forward, first_held, input_dtype, named_inputs
from headstart.distill.projection import Logits, Projection, as_logits
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.errors import TeacherError


class Teacher(TargetSource):
    """A module that is kept frozen and in eval mode, with what belongs to its side of the input and the output.

    The module's parameters stop requiring gradients. It is put back into eval mode before each forward, so that a
    parent's `.train()` cannot switch dropout on or let BatchNorm statistics drift.

    Args:
        module: Any module that maps the student's inputs to logits, to an object with `logits`, or to a tuple that
            begins with them. Outside autocast it is given floating inputs in the dtype of its own layers. What it
            writes into its inputs in place, it writes into copies.
        name: Used in messages and records; the class's name by default.
        prepare: Applied to the inputs first, where the teacher was trained on other ones (see `renormalise`).
        size: Height and width (one number for both) that images, and frames of videos, are resized to. Fewer pixels
            cost less time.
        classes: Which of the teacher's classes are the student's, in the student's order; a number n means the first n
            (a vocabulary padded beyond the tokenizer's). By default all.
        autocast: Dtype to run under autocast with; `None` (default): whatever the surrounding code runs under.
            Frameworks that autocast only the student's forward (Accelerate) need it named here.
        dtype: Dtype that weights, buffers and floating inputs are converted to, with autocast off: half the memory, or
            float32 for a teacher that overflows in less.
        device: Where it stays, inputs and logits being copied. By default it follows the student.
        memory_format: Of weights and images; `torch.channels_last` is what convolutions are fastest in.
        fold: Fold batch norms into convolutions (see `fold_batch_norms`); the module is then a copy.
        compile: Run it through `torch.compile`.
        temperature: Divides its logits, of classes or labels, before any loss sees them: the one that calibrates it, as
            `headstart.probe` finds it. Default 1: they are as they are.

    Raises:
        TeacherError: `module` is no torch module, or an option does not fit it or another option.

    Example:
        >>> teacher = Teacher(nn.Linear(2, 3), name="old", classes=[2, 0])
        >>> teacher.logits(torch.zeros(1, 2)).shape, teacher.module.training
        (torch.Size([1, 2]), False)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str | None = None,
        prepare: Callable[[Any], Any] | None = None,
        size: int | tuple[int, int] | None = None,
        classes: int | Sequence[int] | None = None,
        autocast: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        memory_format: torch.memory_format | None = None,
        fold: bool = False,
        compile: bool = False,
        temperature: float = 1.0,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TeacherError(
                f"a teacher must be a torch module, not {type(module).__name__}; load one with headstart.load_teacher"
            )
        self.name = name or type(module).__name__
        if autocast is not None and dtype is not None:
            raise TeacherError(f"teacher {self.name!r}: give autocast or dtype, not both; dtype turns autocast off")
        if not 0.0 < temperature < float("inf"):
            raise TeacherError(f"teacher {self.name!r}: temperature={temperature} must be a positive number")
        self.temperature = temperature
        self.module = fold_batch_norms(module) if fold else module.eval()
        for parameter in self.module.parameters():  # one by one, as a TorchScript module asks for it
            parameter.requires_grad_(False)
        if device is not None:
            self.module.to(device=device)
        if dtype is not None:  # quantised models of transformers refuse to be told of any, even of None
            self.module.to(dtype=dtype)
        config: Any = getattr(wrapped_in(self.module), "config", None)
        if getattr(config, "use_cache", False):
            config.use_cache = False  # or all layers' keys and values are kept, for a generation that never comes
        if memory_format is not None:
            self.module.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.prepare = prepare
        self.size = (size, size) if isinstance(size, int) else size
        self.autocast, self.dtype, self.memory_format = autocast, dtype, memory_format
        self.device = torch.device(device) if device is not None else None
        self.classes = classes if classes is None or isinstance(classes, int) else tuple(classes)
        self._check_classes()
        self._index: Tensor | None = None  # of `classes`, on the device
        self.compiled = compile
        self._forward = Forward(torch.compile(self.module) if compile else self.module)

    def targets(self, inputs: Any, keys: Keys | None = None) -> Target:
        """The logits, or what the module gives for them; which inputs they are for is of no account to a live teacher.

        A `Projection` is as good as the module's weights are: to be used before these change or move.
        """
        return self._given(inputs, ())[0]

    def several(self, inputs: Any, keys: Keys | None, names: Names) -> list[Tensor]:
        """As in `TargetSource`."""
        return [as_logits(one) for one in self._given(inputs, names)]

    def check(self, use: Use) -> None:
        """Dense logits are good for everything."""

    def logits(self, inputs: Any) -> Tensor:
        """The teacher's logits for the student's classes, `[..., classes]`, without gradient, in the module's dtype.

        Args:
            inputs: What the student was given: a tensor, a tuple of positional or a mapping of named arguments, of
                which the forward gets those that it takes.

        Raises:
            TeacherError: The result of the forward holds no logits, or too few for `classes`; the forward cannot take
                the inputs, or one that it needs is missing. What else it raises passes through, with a note that names
                the teacher.
        """
        with torch.no_grad():
            return as_logits(self._given(inputs, ())[0])

    def _given(self, inputs: Any, names: Names) -> list[Logits]:
        """What the module gives for the heads of these names, or, without any, for its only one."""
        if any(module.training for module in self.module.modules()):
            self.module.eval()
        # no_grad and not inference_mode: compiled under the latter, a teacher breaks later training (pytorch #135892).
        with torch.no_grad():
            prepared = self.prepared(inputs)
            with self._precision(prepared):
                if isinstance(prepared, Mapping):
                    prepared = named_inputs(self.module, prepared, self.name)
                found = self._forward.heads(prepared, self.name, names)
                logits = [self._calibrated(self._of_students_classes(one)) for one in found]
            given = first_tensor(inputs)
            if self.device is None or given is None:
                return logits
            return [as_logits(one).to(given.device) for one in logits]  # and not the head's weight, at each step

    def prepared(self, inputs: Any) -> Any:
        """The inputs as the module is given them: on its device, in its dtype, normalisation and resolution."""
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        if (size := self.size) is not None:
            inputs = each_image(lambda images: resize(images, size), inputs)
        given = first_tensor(inputs)
        dtype = self._input_dtype(given.device.type) if given is not None else self.dtype
        return each_tensor(lambda tensor: self._prepared_tensor(tensor, dtype), inputs)

    def to(self, device: torch.device) -> None:
        """Move the module, if it is elsewhere and has no device of its own."""
        first = first_held(self.module)
        if self.device is None and first is not None and first.device != device:
            self.module.to(device)

    def _check_classes(self) -> None:
        if self.classes is None:
            return
        lowest = self.classes - 1 if isinstance(self.classes, int) else min(self.classes, default=-1)
        if lowest < 0:
            raise TeacherError(
                f"teacher {self.name!r}: classes={self.classes} must be indices from 0 on, or a number of them"
            )

    def _prepared_tensor(self, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
        if self.device is not None:
            tensor = tensor.to(self.device)
        if not tensor.is_floating_point():
            return tensor
        if dtype is not None:
            tensor = tensor.to(dtype)
        if tensor.dim() == 4 and self.memory_format is not None:
            tensor = tensor.contiguous(memory_format=self.memory_format)
        return tensor

    def _input_dtype(self, kind: str) -> torch.dtype | None:
        """The dtype of floating inputs; under autocast, which casts by itself, they stay as they are."""
        if self.dtype is not None:
            return self.dtype
        autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # not on meta, say
        if self.autocast is not None or autocast:
            return None
        return input_dtype(self.module)

    def _precision(self, inputs: Any) -> AbstractContextManager[Any]:
        given = first_tensor(inputs)
        kind = given.device.type if given is not None else "cpu"
        if self.dtype is not None:
            return torch.autocast(kind, enabled=False)
        return nullcontext() if self.autocast is None else torch.autocast(kind, dtype=self.autocast)

    def _calibrated(self, logits: Logits) -> Logits:
        if self.temperature == 1.0:
            return logits
        if isinstance(logits, Projection):  # there are fewer hidden states than rows of the weight
            bias = None if logits.bias is None else logits.bias / self.temperature
            return Projection(logits.hidden / self.temperature, logits.weight, bias)
        return logits / self.temperature

    def _of_students_classes(self, logits: Logits) -> Logits:
        if self.classes is None:
            return logits
        if isinstance(logits, Projection):  # a class is a row of the weight
            weight = self._picked(logits.weight.T).T
            return Projection(logits.hidden, weight, None if logits.bias is None else self._picked(logits.bias))
        return self._picked(logits)

    def _picked(self, logits: Tensor) -> Tensor:
        """The student's classes, of the teacher's in the last dimension."""
        assert self.classes is not None
        needed = self.classes if isinstance(self.classes, int) else max(self.classes) + 1
        if needed > logits.shape[-1]:
            raise TeacherError(
                f"teacher {self.name!r} has {logits.shape[-1]} classes, 0 to {logits.shape[-1] - 1}; its `classes` ask "
                f"for class {needed - 1}"
            )
        if isinstance(self.classes, int):
            return logits[..., :needed]
        if self._index is None or self._index.device != logits.device:
            self._index = torch.tensor(self.classes, device=logits.device)
        return logits.index_select(-1, self._index)
