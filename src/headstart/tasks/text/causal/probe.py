"""What a causal model of transformers is found to do, by trying it on a few tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CLOSE = 1e-3  # of the largest logit; what attention tells is far more, rounding far less


@torch.no_grad()
def has_linear_head(model: PreTrainedModel) -> bool:
    """Whether the logits are what a linear layer makes of the last states, and nothing is done to them afterwards.

    Some models bound or scale them (Gemma 2, Granite, Cohere): hidden states and the head's weight are then not all
    that tells the logits.
    """
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(head, nn.Module) or not isinstance(weight, Tensor) or weight.dim() != 2:
        return False
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def replaced(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        # Large ones, as a bound leaves small logits nearly what they are.
        other = torch.arange(output.numel(), device=output.device).view_as(output) % 101 - 50.0
        seen.append((args[0], output, other.to(output.dtype)))
        return seen[-1][2]

    hook = head.register_forward_hook(replaced)
    try:
        logits = _logits(model, [[0, 1, 2, 3]])
    finally:
        hook.remove()
    if len(seen) != 1 or logits.shape != seen[0][2].shape or not torch.equal(logits, seen[0][2]):
        return False
    hidden, own, _ = seen[0]
    made = F.linear(hidden, weight, getattr(head, "bias", None))
    return own.shape == made.shape and _close(own, made)


@torch.no_grad()
def looks_ahead(model: PreTrainedModel) -> bool:
    """Whether a token's logits depend on later ones, so that the next is given away (BERT without `is_decoder`)."""
    logits = _logits(model, [[0, 1, 2, 3], [0, 1, 2, 4]])[:, :3]
    return not _close(logits[0], logits[1])


@torch.no_grad()
def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Whether positions that begin anew keep a document from what stands before it, as if it stood alone."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    positions = torch.tensor([[0, 1, 0, 1]] * 2)
    both = _logits(model, [[0, 1, 2, 3], [4, 5, 2, 3]], positions)[:, 2:]
    alone = _logits(model, [[2, 3]])
    return _close(both[0], alone[0]) and _close(both[1], alone[0])


def _logits(model: PreTrainedModel, tokens: list[list[int]], positions: Tensor | None = None) -> Tensor:
    inputs: dict[str, Any] = {"input_ids": torch.tensor(tokens, device=model.device), "use_cache": False}
    if positions is not None:
        inputs["position_ids"] = positions.to(model.device)
    with _judging(model):
        logits: Tensor = model(**inputs).logits
    return logits


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _CLOSE * other.abs().max())
