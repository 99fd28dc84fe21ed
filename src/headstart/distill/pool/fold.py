"""Batch norms folded into the convolutions before them: what a frozen teacher computes, with less work."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from headstart.errors import TeacherError

_PAIRS = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A module that computes the same in eval mode, with batch norms folded into the convolutions before them.

    In eval mode a batch norm is an affine map with constants, and so can be part of the convolution's weights; what is
    saved is reading and writing the activations once more.

    Args:
        module: Not changed. Its forward must be one that `torch.fx` can trace: the same operators for every batch.

    Returns:
        A copy in eval mode.

    Raises:
        TeacherError: The forward cannot be traced, or no batch norm directly follows a convolution.

    Example:
        >>> folded = fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
        >>> [type(part).__name__ for part in folded.children()]
        ['Conv2d', 'ReLU']
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(module).eval())  # a trace shares the layers that it leaves as they are
    except Exception as error:  # what stops a trace is as varied as the code traced
        raise TeacherError(
            f"{type(module).__name__}: batch norms cannot be folded, as torch.fx cannot trace its forward ({error}); "
            "leave fold out for this teacher"
        ) from None
    pairs = _foldable(traced)
    for convolution, norm in pairs:
        _fold(traced, convolution, norm)
    if not pairs:
        raise TeacherError(
            f"{type(module).__name__}: no batch norm directly follows a convolution; leave fold out for this teacher"
        )
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _foldable(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Calls of a convolution whose result goes to a batch norm and nowhere else; each of them called only once."""
    modules = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    found = []
    for norm in traced.graph.nodes:
        before = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        first, second = modules[str(before.target)], modules[str(norm.target)]
        fits = type(second) is _PAIRS.get(cast(Any, type(first))) and cast(Any, second).running_mean is not None
        if fits and calls[before.target] == calls[norm.target] == 1:
            found.append((before, norm))
    return found


def _fold(traced: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> None:
    first, second = (cast(Any, traced.get_submodule(str(node.target))) for node in (convolution, norm))
    parent, _, name = str(convolution.target).rpartition(".")
    setattr(traced.get_submodule(parent), name, fuse_conv_bn_eval(first, second))
    norm.replace_all_uses_with(convolution)
    traced.graph.erase_node(norm)
