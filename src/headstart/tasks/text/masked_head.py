"""Masked rows only: the vocabulary head, most of a small model's work, sees no other positions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# The first module of each model type's masked-LM head: it is given the encoder's output, [batch, length, hidden].
_HEADS = {"bert": "cls", "roberta": "lm_head", "distilbert": "vocab_transform", "modernbert": "head"}
_told: set[str] = set()


def attach_masked_head(model: PreTrainedModel, *, columns: int) -> None:
    """Let a masked-LM model take `masked_rows`, and give logits for these rows alone.

    It works by hooks, so that the model can be wrapped (DDP, FSDP), compiled and copied as ever, and the names of its
    weights stay. Called with `masked_rows`, int64 indices into the flattened `[batch * length]` positions, the model
    gives logits `[masked rows, columns]`, equal to the same rows of what it gives without. A model type whose head is
    not known computes all logits and picks the rows from them; a line of the log says so, once.

    Args:
        model: A model of transformers.
        columns: Size of the vocabulary; further columns of the logits are padding and cut off.
    """
    picker = _RowPicker(columns)
    kind = model.config.model_type
    model.register_forward_pre_hook(picker.take_rows, with_kwargs=True)
    if kind in _HEADS:
        model.get_submodule(_HEADS[kind]).register_forward_pre_hook(picker.pick_hidden)
    elif kind not in _told:
        _told.add(kind)
        logger.warning(
            "%s: its masked-LM head is not known, so logits are computed for all positions and not for the masked ones "
            "alone; known are %s",
            kind,
            ", ".join(_HEADS),
        )
    model.register_forward_hook(picker.pick_logits)


class _RowPicker:
    """Hands the rows from the model's call on to its head."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: Tensor | None = None

    def take_rows(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._rows = kwargs.get("masked_rows")
        return args, {name: value for name, value in kwargs.items() if name != "masked_rows"}

    def pick_hidden(self, head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *others = args
        return self._pick(hidden), *others

    def pick_logits(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        logits = self._pick(output.logits)
        output.logits = logits if logits.shape[-1] == self._columns else logits[..., : self._columns]
        return output

    def _pick(self, values: Tensor) -> Tensor:
        rows, self._rows = self._rows, None
        return values if rows is None else values.flatten(0, -2).index_select(0, rows)
