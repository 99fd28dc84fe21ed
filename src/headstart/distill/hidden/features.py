"""Where a layer's output has its features: last, as states of tokens have them, or in dimension 1, as maps may."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import Size, Tensor, nn
from torch.nn.modules import batchnorm, conv, pooling

from headstart.errors import HeadstartError

MapFeatures: TypeAlias = Literal["first", "last"]

# What works on dimension 1, and what on the last one.
_FIRST = (
    conv._ConvNd,
    batchnorm._NormBase,
    nn.GroupNorm,
    nn.Upsample,
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
    pooling._AdaptiveAvgPoolNd,
)
_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


class Features:
    """Brings what a layer gives into `[..., features]`. Where maps have theirs is found at the first, and kept.

    Args:
        name: The layer's, for messages.
        maps: Where maps have their features if the layer does not tell: in dimension 1 (`"first"`) or the last one.
    """

    def __init__(self, name: str, maps: MapFeatures | None = None) -> None:
        self.name = name
        self._told = {None: None, "first": 1, "last": -1}[maps]
        self._dim: int | None = None

    def of(self, layer: nn.Module, output: Any) -> Tensor:
        """The states in an output of the layer: a tensor, or what a tuple begins with, its features last.

        Raises:
            HeadstartError: There are none, or where maps have their features is not to be told.
        """
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        states = getattr(first, "last_hidden_state", first)
        if not isinstance(states, Tensor) or states.dim() < 2 or not states.is_floating_point():
            given = f"a tensor of shape {tuple(states.shape)}" if isinstance(states, Tensor) else type(states).__name__
            raise HeadstartError(
                f"layer {self.name!r} gives {given}, and no states [..., features]; take another layer"
            )
        if self._dim is None:
            self._dim = self._dim_of(layer, states.shape)
        return states.movedim(self._dim, -1)

    def _dim_of(self, layer: nn.Module, shape: Size) -> int:
        dim = dim_of_features(layer, shape) if len(shape) > 2 else -1
        if dim is None:
            dim = -1 if len(shape) == 3 else self._told  # tokens' states have them last, unless all speaks against it
        if dim is None:
            raise HeadstartError(
                f"layer {self.name!r} gives maps of shape {tuple(shape)}, and neither its weights nor its modules tell "
                "whether their features are in dimension 1 or the last one; take another layer, or say map_features="
                "'first' or 'last'"
            )
        return dim


def dim_of_features(layer: nn.Module, shape: Size) -> int | None:
    """The dimension in which a layer's maps have their features: 1 or -1; None where that is not certain.

    Two things tell: the sizes of the layer's weights, of which the features' number is one, and its modules, as
    convolutions work on dimension 1 and linear maps on the last. Each may be silent, but they must not disagree.

    Args:
        layer: The layer.
        shape: Of its output, `[batch, features, ...]` or `[batch, ..., features]`.

    Example:
        >>> dim_of_features(nn.Conv2d(3, 8, 1), Size((2, 8, 4, 4)))
        1
        >>> dim_of_features(nn.ReLU(), Size((2, 8, 4, 4)))  # which may be either
    """
    told = {_by_sizes(layer, shape), _by_modules(layer)} - {None}
    return told.pop() if len(told) == 1 else None


def _by_sizes(layer: nn.Module, shape: Size) -> int | None:
    sizes = {weight.shape[0] for weight in layer.parameters() if weight.dim()}
    return _one_of(shape[1] in sizes, shape[-1] in sizes)


def _by_modules(layer: nn.Module) -> int | None:
    parts = [*layer.modules()]
    return _one_of(any(isinstance(part, _FIRST) for part in parts), any(isinstance(part, _LAST) for part in parts))


def _one_of(first: bool, last: bool) -> int | None:
    return None if first == last else 1 if first else -1
