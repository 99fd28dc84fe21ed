"""The states that a layer gives, caught by a hook in a forward that is made anyway."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.hidden.features import Features


class Caught:
    """The states that a layer gave last, kept by `keep`, a forward hook.

    A copy of the layer, such as an average of weights has, gets a hook of its own, which holds nothing of this one.

    Args:
        features: Where the layer has its features.
        learning: Keep them only where gradients are on.
    """

    def __init__(self, features: Features, *, learning: bool = False) -> None:
        self._features, self._learning = features, learning
        self._held: Tensor | None = None
        self._ready: torch.cuda.Event | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_features": self._features, "_learning": self._learning, "_held": None, "_ready": None}

    def keep(self, module: nn.Module, args: Any, output: Any) -> None:
        """Called by the layer after its forward."""
        if self._learning and not torch.is_grad_enabled():
            return
        self._held = self._features.of(module, output)
        if not self._learning and self._held.is_cuda:  # a teacher may work on a stream of its own
            self._ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._ready.record(torch.cuda.current_stream(self._held.device))

    def take(self) -> Tensor | None:
        """The states `[..., features]`, once, for use on the present stream; None where there are none."""
        held, ready, self._held, self._ready = self._held, self._ready, None, None
        if held is not None and ready is not None:
            present = torch.cuda.current_stream(held.device)
            present.wait_event(ready)
            held.record_stream(present)
        return held


class _Reached(Exception):
    pass


def states_at(layer: nn.Module, features: Features, forward: Callable[[], object]) -> Tensor | None:
    """What a layer gives in a forward, which goes up to it and no further.

    Args:
        layer: The layer.
        features: Where it has its features.
        forward: Calls the module that it is a part of.

    Returns:
        `[..., features]`; None where the forward does not call it.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(7, 7))  # whose second layer would fail
        >>> states_at(net[0], Features("0"), lambda: net(torch.zeros(4, 2))).shape
        torch.Size([4, 3])
    """
    caught = Caught(features)

    def reach(module: nn.Module, args: Any, output: Any) -> None:
        caught.keep(module, args, output)
        raise _Reached

    with layer.register_forward_hook(reach), suppress(_Reached):
        forward()
    return caught.take()
