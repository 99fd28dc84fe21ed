"""A student or a source: its tensors by name, and what its configuration says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InitError

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# What DDP, torch.compile, FSDP and activation checkpointing put into names.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class Side:
    """One of the two models of an init.

    Args:
        model: The module, or a mapping from names to tensors; one that reads a tensor when it is asked for may have
            `shapes`, a mapping from names to shapes, so that nothing is read for its shape alone.
        config: What it is configured by, an object or a mapping; None: the first `config` in the module.
        who: "student" or "source", for messages.
    """

    def __init__(self, model: nn.Module | Mapping[str, Tensor], config: Any, who: str) -> None:
        self.who = who
        self.module = model if isinstance(model, nn.Module) else None
        if isinstance(model, nn.Module):
            state = model.state_dict(keep_vars=True)
            self.tensors: Mapping[str, Tensor] = {name: value for name, value in state.items() if _is_tensor(value)}
            config = config if config is not None else _config_of(model)
        else:
            self.tensors = model
        self.config = config
        self.names = {clean(name): name for name in self.tensors}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def called(self, prefix: str, older: Iterable[tuple[str, str]] = ()) -> None:
        """Leave out what stands before the names of a family's tensors, and its parent's before those beside them.

        Args:
            prefix: What stands before them.
            older: Parts of names of earlier versions, as regular expressions, and what has taken their place.
        """
        outer = prefix[: prefix.rstrip(".").rfind(".") + 1]

        def new(name: str) -> str:
            name = _without(name, prefix, outer)
            for pattern, current in older:
                name = re.sub(pattern, current, name)
            return name

        self.names = {new(name): actual for name, actual in self.names.items()}
        self._shapes = {new(name): shape for name, shape in self._shapes.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        if name not in self._shapes:
            actual = self.names[name]
            shapes = getattr(self.tensors, "shapes", None)
            self._shapes[name] = tuple(shapes[actual] if shapes is not None else self._get(actual).shape)
        return self._shapes[name]

    def is_weight(self, name: str) -> bool:
        """Whether a tensor of a module has numbers that are learnt or measured, and no counts."""
        return self.tensors[self.names[name]].is_floating_point()

    def read(self, name: str) -> Tensor:
        """The values of a tensor, detached.

        Raises:
            InitError: They are quantised, or not there.
        """
        actual = self.names[name]
        tensor = self._get(actual).detach()
        if tensor.is_meta:
            raise InitError(f"{self.who}: {actual} is on the meta device and has no values; load the weights first")
        if tensor.dtype not in _FLOATS:
            raise InitError(
                f"{self.who}: {actual} is quantised ({str(tensor.dtype).removeprefix('torch.')}); "
                "give the weights as they were before quantisation, or dequantise them first"
            )
        return tensor

    def setting(self, *names: str) -> Any:
        """What the configuration says under the first of some names that it has; None: nothing."""
        for name in names:
            found = self.config.get(name) if isinstance(self.config, Mapping) else getattr(self.config, name, None)
            if found is not None:
                return found
        return None

    def owner(self, name: str) -> nn.Module | None:
        """The module that has a tensor; None for a mapping."""
        return None if self.module is None else self.module.get_submodule(self.names[name].rpartition(".")[0])

    def _get(self, actual: str) -> Tensor:
        tensor = self.tensors[actual]
        if not isinstance(tensor, Tensor):
            raise InitError(
                f"{self.who}: {actual} is no tensor ({type(tensor).__name__}); give the state dict itself, "
                "not what it lies in"
            )
        return tensor


def all_finite(tensor: Tensor) -> bool:
    """No value of it is nan or inf; by its extremes, which a processor finds far sooner than a mask of all values.

    Example:
        >>> all_finite(torch.tensor([1.0, float("nan")])), all_finite(torch.tensor([1.0])), all_finite(torch.ones(0))
        (False, True, True)
    """
    return tensor.numel() == 0 or all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor.detach()))


def clean(name: str) -> str:
    """A name without what wrappers put into it.

    Example:
        >>> clean("module._orig_mod.layer1.0.conv1.weight")
        'layer1.0.conv1.weight'
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while parts[0] == "module" and len(parts) > 1:
        parts = parts[1:]
    return ".".join(parts)


def _without(name: str, prefix: str, outer: str) -> str:
    return name.removeprefix(prefix) if name.startswith(prefix) else name.removeprefix(outer)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _config_of(model: nn.Module) -> Any:
    return next((module.config for module in model.modules() if getattr(module, "config", None) is not None), None)
