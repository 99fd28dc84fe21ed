"""The student's logits, beside the loss that a Trainer makes of them, or without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headstart.distill.vocabulary import inside
from headstart.errors import HeadstartError
from headstart.generators import noted

Pick = Callable[[Any, bool], Any]  # the logits of a model's outputs; the flag: whether a tuple begins with the loss

_NOT_FOUND = (
    "the student gave no `logits` to distil: neither what the Trainer returns beside the loss nor the model's forward "
    "has any with a gradient. Models with several outputs may have none; a loss that is fused with the model's head "
    "leaves them out (use_liger_kernel=True, the fused head of TRL's SFTTrainer) and cannot be seen into where the "
    "model is compiled: set use_liger_kernel=False, and torch_compile=False"
)


class Ran(NamedTuple):
    """A loss, and what it was made of.

    Attributes:
        loss: The loss.
        logits: The student's, as `pick` gives them.
        inner: What the loss has its gradient in: the logits, or the last states where it was made without logits.
        outputs: What the Trainer returned beside the loss, if it was asked for that.
    """

    loss: Tensor
    logits: Any
    inner: Tensor
    outputs: Any


class StudentLogits:
    """Finds them in what the Trainer returns, or else in what the model gave while the Trainer computed its loss.

    Some Trainers return outputs that they made again, without a gradient. And some losses are made of the model's last
    states, in parts, so that the logits never exist in full: the model's own forward then makes them of these states.

    Args:
        student: The model, without what is wrapped around it.
        pick: Takes the logits out of a model's outputs; None where there are none.
    """

    def __init__(self, student: nn.Module, pick: Pick) -> None:
        self._student, self._backbone, self._pick = student, _backbone(student), pick
        self._opaque = is_compiled(student)  # a hook would be compiled into it, and stay there
        self._returned: bool | None = None  # whether the Trainer returns them; known from the first step on

    def run(
        self,
        compute: Callable[[bool], tuple[Tensor, Any, bool]],
        forward: Callable[..., Any],
        given: Mapping[str, Any],
        *,
        outputs: bool,
    ) -> Ran:
        """Compute the loss, and find the logits.

        Args:
            compute: The Trainer's loss: takes whether to return the outputs; gives the loss, the outputs or None, and
                whether a tuple of them begins with the loss.
            forward: The model as the Trainer calls it.
            given: The batch without its labels.
            outputs: Whether the caller wants the outputs.

        Raises:
            HeadstartError: There are none.
        """
        if self._returned:
            return self._from_outputs(*compute(True))
        first = self._returned is None
        with self._watched(note_generators=first and not outputs) as watch:
            loss, made, after_loss = compute(outputs or first)
        if first:
            ran = self._from_outputs(loss, made, after_loss)
            # Of a frozen student the Distiller tells.
            self._returned = has_gradient(ran.logits) or not (loss.requires_grad or ran.logits is None)
            if self._returned:
                return ran
            watch.rewind()
        if watch.logits:
            return Ran(loss, watch.logits[0], first_of(watch.logits[0]), made)
        if watch.states and self._backbone is not None:
            outputs_then, states = watch.states[0]
            with _answering(self._backbone, outputs_then):
                logits = self._pick(forward(**given), False)
            if has_gradient(logits):
                return Ran(loss, logits, states, made)
        raise HeadstartError(_NOT_FOUND)

    def _watched(self, *, note_generators: bool) -> AbstractContextManager[_Watch]:
        if self._opaque:
            return nullcontext(_Watch())
        return _watching(self._student, self._backbone, self._pick, note_generators=note_generators)

    def _from_outputs(self, loss: Tensor, made: Any, after_loss: bool) -> Ran:
        logits = self._pick(made, after_loss)
        return Ran(loss, logits, loss if logits is None else first_of(logits), made)


def is_compiled(model: Any) -> bool:
    """Whether `torch.compile` has made something else of a model, or of its call."""
    return hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None


def first_of(logits: Any) -> Tensor:
    """The logits of a head, the first of several."""
    return logits if isinstance(logits, Tensor) else next(iter(logits.values()))


def has_gradient(logits: Any) -> bool:
    """Whether there are logits, and something can be learned by them."""
    return logits is not None and first_of(logits).requires_grad


@dataclass
class _Watch:
    """What the student and its backbone gave, with a gradient.

    Attributes:
        logits: The student's.
        states: What its backbone gave, and the last states in it.
        rewind: Takes back what was drawn since (dropout, in outputs that were made again).
    """

    logits: list[Any] = field(default_factory=list)
    states: list[tuple[Any, Tensor]] = field(default_factory=list)
    rewind: Callable[[], None] = lambda: None


@contextmanager
def _watching(student: nn.Module, backbone: nn.Module | None, pick: Pick, *, note_generators: bool) -> Iterator[_Watch]:
    watch = _Watch()

    def note_generated() -> None:
        if note_generators and torch.is_grad_enabled():
            watch.rewind = noted()

    def note_logits(_: nn.Module, __: Any, named: dict[str, Any], outputs: Any) -> None:
        note_generated()
        if torch.is_grad_enabled() and has_gradient(logits := pick(outputs, "labels" in named)):
            watch.logits.append(logits)

    def note_states(_: nn.Module, __: Any, outputs: Any) -> None:
        note_generated()
        states = _last_states(outputs)
        if torch.is_grad_enabled() and states is not None and states.requires_grad:
            watch.states.append((outputs, states))

    hooks = [student.register_forward_hook(note_logits, with_kwargs=True)]
    if backbone is not None:
        hooks.append(backbone.register_forward_hook(note_states))
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _answering(backbone: nn.Module, outputs: Any) -> Iterator[None]:
    """Have a module give what it gave before, so that only what follows it is computed."""
    own = backbone.__dict__.get("forward")
    backbone.forward = lambda *_, **__: outputs
    try:
        yield
    finally:
        if own is None:
            del backbone.forward
        else:
            backbone.forward = own


def _backbone(student: Any) -> nn.Module | None:
    """What gives the states that the head of a model of transformers makes logits of; PEFT's is the model inside."""
    model = inside(student)
    inner = getattr(model, "base_model", None)
    return inner if isinstance(inner, nn.Module) and inner is not model else None


def _last_states(outputs: Any) -> Tensor | None:
    states = getattr(outputs, "last_hidden_state", outputs[0] if isinstance(outputs, tuple) else outputs)
    return states if isinstance(states, Tensor) else None
