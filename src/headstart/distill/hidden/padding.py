"""Which rows of a batch are padding, and how much of its optimiser step it is, as far as its inputs tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Size, Tensor, nn


class Padding:
    """Reads the mask of attention among a batch's named inputs, if there is one of the states' shape.

    Args:
        student: The student; of an encoder-decoder each side has a mask of its own.
        layer: Its layer's path.
    """

    def __init__(self, student: nn.Module, layer: str) -> None:
        two_sides = getattr(getattr(student, "config", None), "is_encoder_decoder", False) is True
        decoder = two_sides and "decoder" in layer.split(".")
        self._mask = "decoder_attention_mask" if decoder else "attention_mask"
        main = getattr(student, "main_input_name", "input_ids")
        self._main = ("decoder_input_ids", "labels") if decoder else (main,)
        self._fits = True  # until a mask has another shape than the states

    def real(self, inputs: Any, shape: Size) -> Tensor | None:
        """The rows that are none, of bool; None where nothing tells, and all count.

        Args:
            inputs: What the student was given.
            shape: Of the states, without their features.
        """
        mask = self._mask_in(inputs)
        if mask is None or not self._fits:
            return None
        self._fits = mask.shape == shape
        return mask > 0 if self._fits else None

    def size(self, inputs: Any) -> Tensor | int:
        """How many rows count; where no mask tells, a number that the rows are in proportion to."""
        mask = self._mask_in(inputs)
        if mask is not None and self._fits:
            return (mask > 0).sum()
        parts: Mapping[Any, Any] = inputs if isinstance(inputs, Mapping) else {}
        named = [parts[name] for name in self._main if isinstance(parts.get(name), Tensor)]
        given = [*named, *parts.values()] if parts else [*inputs] if isinstance(inputs, (tuple, list)) else [inputs]
        return next((part.numel() for part in given if isinstance(part, Tensor)), 1)

    def _mask_in(self, inputs: Any) -> Tensor | None:
        mask = inputs.get(self._mask) if isinstance(inputs, Mapping) else None
        return mask if isinstance(mask, Tensor) else None
