"""What teachers are given of a Trainer's batch: what the student is, in the arguments that they take."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from headstart.distill.inputs import wrapped_in
from headstart.distill.vocabulary import inside

_DECODER_INPUTS = ("decoder_input_ids", "decoder_inputs_embeds")


def arguments(model: Any) -> dict[str, inspect.Parameter]:
    """The arguments of a model's forward; of one that PEFT wraps, those of the model inside."""
    return dict(inspect.signature(inside(wrapped_in(model)).forward).parameters)


def takes_any(model: nn.Module) -> bool:
    """Whether a forward takes arguments that it does not name."""
    return any(argument.kind is argument.VAR_KEYWORD for argument in arguments(model).values())


def only_for_teachers(student: nn.Module, teachers: Iterable[nn.Module]) -> set[str]:
    """The arguments that a teacher names and the student does not; labels are for neither.

    Example:
        >>> class Boxed(nn.Module):
        ...     def forward(self, ids, boxes=None, labels=None): ...
        >>> only_for_teachers(nn.Identity(), [Boxed()]) - {"ids"}
        {'boxes'}
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = {
        name
        for teacher in teachers
        for name, argument in arguments(teacher).items()
        if argument.kind in kinds and "label" not in name and name not in ("start_positions", "end_positions")
    }
    return taken - set(arguments(student))


class DecoderInputs:
    """What an encoder-decoder makes of its labels for its decoder, which a teacher is not given.

    Args:
        student: The model, without what is wrapped around it.
    """

    def __init__(self, student: Any) -> None:
        self._student = student
        self._made = getattr(getattr(student, "config", None), "is_encoder_decoder", False) is True

    def missing(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a batch lacks them, so that the model makes them of its labels."""
        labels = inputs.get("labels")
        is_text = isinstance(labels, Tensor) and labels.dim() > 1 and not labels.is_floating_point()
        return self._made and is_text and not any(inputs.get(name) is not None for name in _DECODER_INPUTS)

    def ahead(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """What the model is going to make of these labels; None where only its forward knows."""
        make = getattr(self._student, "prepare_decoder_input_ids_from_labels", None)
        return None if make is None else make(labels=inputs["labels"])

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """What the decoder is given while the model is run."""
        seen: list[Tensor] = []

        def note(_: nn.Module, placed: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = named.get("input_ids", placed[0] if placed else None)
            if isinstance(given, Tensor) and not given.is_floating_point():
                seen.append(given)

        hook = self._student.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
        try:
            yield seen
        finally:
            hook.remove()
