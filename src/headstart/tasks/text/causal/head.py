"""A causal model that gives its last states and its head in the place of logits, which then never exist in full."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F

from headstart.distill import Projection
from headstart.tasks.text.causal.probe import has_linear_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

ROWS = "next_token_rows"
_told: set[str] = set()


def attach_causal_head(model: PreTrainedModel, *, columns: int) -> None:
    """Let a causal model take `next_token_rows`, and give a `Projection` for these rows in the place of logits.

    It works by hooks, so that the model can be wrapped (DDP, FSDP) and copied as ever, and the names of its weights
    stay. Called with `next_token_rows`, int64 indices into the flattened `[batch * length]` positions, the model's
    `logits` are a `Projection` of the states there and of the head's weight, whose logits `[rows, columns]` equal the
    same rows of what it gives without; under autocast in its dtype, as a linear layer's would be. Without
    `next_token_rows` the model gives what it always gave.

    A model that does more to its logits than a linear layer does gives these rows of its logits; a line of the log says
    so, once. So does a frozen model in parts (FSDP): its weights are together during its forward only.

    Args:
        model: A model of transformers. It is tried on a few tokens.
        columns: Size of the vocabulary; further columns of the logits are padding and cut off.
    """
    linear = _is_linear(model)
    caches = "use_cache" in inspect.signature(model.forward).parameters
    picker = _Picker(columns, linear=linear, caches=caches)
    model.register_forward_pre_hook(picker.take_rows, with_kwargs=True)
    if linear:
        model.get_output_embeddings().register_forward_pre_hook(picker.keep_hidden)
    model.register_forward_hook(picker.give)


def _is_linear(model: PreTrainedModel) -> bool:
    try:
        linear = has_linear_head(model)
    except Exception:  # a forward that wants other inputs, weights that cannot compute here: each in its own way
        linear = False
    kind = str(model.config.model_type)
    if not linear and kind not in _told:
        _told.add(kind)
        logger.warning(
            "%s: its logits are not what a linear head makes of its last states, so they are computed for whole "
            "batches, and not a few rows at a time",
            kind,
        )
    return linear


class _Picker:
    """Hands the rows from the model's call on to its head, and the states there to what the model returns."""

    def __init__(self, columns: int, *, linear: bool, caches: bool) -> None:
        self._columns, self._linear, self._caches = columns, linear, caches
        self._rows: Tensor | None = None
        self._hidden: Tensor | None = None

    def take_rows(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._rows = kwargs.get(ROWS)
        if self._rows is None:
            return args, kwargs
        # With a cache of keys models take no notice of documents, and nothing is generated, so there is none. But on
        # the meta device, where FLOPs are counted, they cannot look for documents, and do the same work without.
        cache = {"use_cache": self._rows.is_meta} if self._caches else {}
        return args, {name: value for name, value in kwargs.items() if name != ROWS} | cache

    def keep_hidden(self, head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._rows is None:
            return None
        hidden, *others = args
        self._hidden = hidden.flatten(0, -2).index_select(0, self._rows)
        return hidden[..., :0, :], *others  # the head is called, and has nothing to do

    def give(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        rows, hidden, self._rows, self._hidden = self._rows, self._hidden, None, None
        if rows is None:
            return output
        if hidden is None:
            output.logits = output.logits.flatten(0, -2).index_select(0, rows)[..., : self._columns]
        else:
            projection = _projection(module, hidden, self._columns)
            frozen = isinstance(module, FSDPModule) and not projection.weight.requires_grad
            output.logits = F.linear(*projection) if frozen else projection
        return output


def _projection(model: Any, hidden: Tensor, columns: int) -> Projection:
    head = model.get_output_embeddings()
    given = Projection(hidden, _first(head.weight, columns), _first(getattr(head, "bias", None), columns))
    kind = hidden.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return given
    dtype = torch.get_autocast_dtype(kind)
    return Projection(*(one if one is None else one.to(dtype) for one in given))  # type: ignore[arg-type]


def _first(values: Any, columns: int) -> Any:
    """The first rows of a parameter; a view of it even where these are all, on which FSDP may leave hooks."""
    return None if values is None else values.view_as(values) if len(values) == columns else values[:columns]
