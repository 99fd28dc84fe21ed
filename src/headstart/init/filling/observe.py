"""The source at work on some batches: what its units are worth, and how the inputs of its layers go together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init.roles import OF_CONTENT, Axis
from headstart.init.view import View

# Axes whose readers are refitted; stages of a network each have an inner axis of their own.
_COMPENSATED = re.compile(r"inner\d*|attended")


@dataclass
class Observed:
    """What was seen.

    Args:
        scores: For each axis of the source what its entries are worth, float64 on the CPU. Of heads, for "attended",
            what each channel is worth.
        moments: For each tensor that reads an axis inside a layer the second moment of its inputs, `[in, in]`, float64.
    """

    scores: dict[Axis, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)


def give(model: nn.Module, batch: Any) -> Any:
    """A batch given to a model: of a tuple or list the first; that as keywords if it is a mapping, else as it is."""
    inputs = _inputs(batch)
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple | list) else batch


def observe(
    view: View,
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any],
    *,
    scores: bool,
    moments: bool,
) -> Observed:
    """Run the source over some batches, without gradient, in eval mode.

    A unit is worth what it gives to the layers that read it (Minitron, arXiv 2407.14679, as in its code): |x| averaged
    over positions, squared, summed over samples, the root of it, summed over the layers that read the axis.

    Args:
        view: The source, a module.
        batches: Batches as `forward` takes them. Where a batch, or the first item of one, is a mapping with an
            `attention_mask`, padding does not count.
        forward: How a batch is given.
        scores: Score the axes.
        moments: Take the second moments.

    Raises:
        InitError: The source is no module, there is no batch, activations are not finite, or of `moments` there are
            none, as no linear layer reads what attention or MLP gives.
    """
    module = view.side.module
    if module is None:
        raise InitError(
            "scores='activation' and compensate need a source that can run: give the module, not its tensors"
        )
    seen = list(_readers(view, scores, moments))
    if moments and not any(reader.moment for reader in seen):
        raise InitError(
            f"compensate fits linear layers that read what attention or MLP gives, and a {view.family.name} has none; "
            "leave it out"
        )
    mask: list[Tensor | None] = [None]
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(evaluating(module))
        for reader in seen:
            hook = reader.module.register_forward_pre_hook(reader.hook(mask))
            stack.callback(hook.remove)
        for batch in batches:
            inputs = _inputs(batch)
            mask[0] = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
            forward(module, batch)
    return _result(seen)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode, and afterwards each module in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Reader:
    """One layer that reads an axis."""

    def __init__(self, name: str, axis: Axis, module: nn.Module, channel: int, score: bool, moment: bool) -> None:
        self.name, self.axis, self.module, self.channel = name, axis, module, channel
        self.score, self.moment = score, moment
        self.squares: Tensor | None = None
        self.products: Tensor | None = None

    def hook(self, mask: list[Tensor | None]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        """What is called before the layer is."""

        def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            values: Tensor = inputs[0].detach().movedim(self.channel, -1)
            counted = mask[0]
            if counted is None or counted.shape != values.shape[:-1]:
                counted = values.new_ones(values.shape[:-1])
            self._add(values, counted.to(values.device))

        return look

    def _add(self, values: Tensor, counted: Tensor) -> None:
        values = values.float() * (counted != 0).unsqueeze(-1)
        rows = values.reshape(len(values), -1, values.shape[-1])
        if self.score:
            lengths = (counted != 0).reshape(len(values), -1).sum(1, keepdim=True).clamp(min=1)
            new = (rows.abs().sum(1) / lengths).double().square().sum(0).cpu()
            self.squares = new if self.squares is None else self.squares + new
        if self.moment:
            flat = rows.flatten(0, 1)
            new = (flat.T @ flat).double()
            self.products = new if self.products is None else self.products + new


def _readers(view: View, scores: bool, moments: bool) -> Iterator[_Reader]:
    """Layers that read an axis; one alone where several of a block are given the same, such as queries and keys."""
    scored: set[tuple[Axis, str]] = set()
    inside = {axis for _, axis, layer in _reading(view) if layer}
    for name, axis, layer in _reading(view):
        block = name.rpartition(".")[0].rpartition(".")[0]
        score = scores and (layer or axis not in inside) and (axis, block) not in scored
        moment = moments and _COMPENSATED.fullmatch(axis.base) is not None and len(view.side.shape(name)) == 2
        module = view.side.owner(name)
        if module is not None and (score or moment):
            scored.add((axis, block))
            yield _Reader(name, axis, module, 1 if len(view.side.shape(name)) > 2 else -1, score, moment)


def _reading(view: View) -> Iterator[tuple[str, Axis, bool]]:
    """Weights that read an axis, and whether they stand in a layer."""
    for name, place in view.places.items():
        for dim in place.roles:
            if dim.reads and name.endswith(".weight") and dim.axes[0].base not in OF_CONTENT:
                yield name, dim.axes[0], bool(place.stack)


def _result(readers: list[_Reader]) -> Observed:
    observed = Observed()
    if all(reader.squares is None and reader.products is None for reader in readers):
        raise InitError("batches: there was none, or none reached the source's layers; give some (a list of batches)")
    for reader in readers:
        if reader.squares is not None:
            before = observed.scores.get(reader.axis, torch.zeros_like(reader.squares))
            observed.scores[reader.axis] = before + reader.squares.sqrt()
        if reader.products is not None:
            observed.moments[reader.name] = reader.products
    if not all(bool(torch.isfinite(score).all()) for score in (observed.scores | observed.moments).values()):
        raise InitError(
            "source: its activations on the batches are not finite (nan or inf); nothing can be chosen by them"
        )
    return observed
