"""A loss whose gradient is known as soon as the loss is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from headstart.errors import HeadstartError

Gradients = Sequence[Tensor | None]
Computed = tuple[Sequence[Tensor], Gradients, Tensor | float | None]


def with_known_gradient(compute: Callable[[], Computed], *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """What `compute` gives, connected to the graph of the inputs.

    Args:
        compute: Returns the outputs, of which only the first, a scalar, is differentiable; its gradient for each input
            (None where that needs none); and, where these are too large by a factor, that factor. It runs without
            autograd, and `torch.compile` breaks its graph at it.
        inputs: None where there is nothing.
    """
    apply: Callable[..., Any] = _KnownGradient.apply
    if torch.compiler.is_compiling():  # `disable` loads the compiler, which takes seconds, so not without need
        apply = torch.compiler.disable(apply)  # type: ignore[no-untyped-call]
    outputs: tuple[Tensor, ...] = apply(compute, *inputs)
    return outputs


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[..., Any], *inputs: Tensor | None) -> tuple[Tensor, ...]:
        outputs, gradients, ctx.excess = compute()
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, factor: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise HeadstartError(
                "the fused loss has no second derivative, so create_graph=True cannot go through it; compute the task "
                "loss with torch.nn.functional.cross_entropy and give it to distiller(loss, logits, inputs)"
            )
        gradients: Gradients = ctx.saved_tensors
        if factor is None:
            return None, *(None for _ in gradients)
        return None, *_scaled(gradients, factor if ctx.excess is None else factor / ctx.excess)


def _scaled(gradients: Gradients, factor: Tensor) -> Gradients:
    """The gradients times the factor; in place unless they will be asked for again, for they may be large."""
    if factor.device.type == "cpu" and factor == 1.0:  # elsewhere, looking would wait for the device
        return gradients
    kept = torch._C._autograd._get_current_graph_task_keep_graph()  # retain_graph=True
    return [g if g is None else (g * factor if kept else g.mul_(factor)) for g in gradients]
