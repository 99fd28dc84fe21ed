"""Which layer of a module is meant: by its path, or by a fraction of the depth."""

from __future__ import annotations

import difflib

from torch import nn

from headstart.errors import HeadstartError


def find_layer(module: nn.Module, where: str | float, *, whose: str) -> tuple[str, nn.Module]:
    """A layer of a module, with its path.

    Args:
        module: The model.
        where: A path as `named_modules` has it (`model.layers.3`); or a fraction of the depth of its longest stack of
            layers: 1.0 is the last one, and 0.25 of 8 layers the second.
        whose: The model's part in the matter, for messages.

    Raises:
        HeadstartError: There is no such layer, or no stack to take a fraction of.

    Example:
        >>> net = nn.Sequential(nn.ModuleDict({"blocks": nn.Sequential(*(nn.Linear(2, 2) for _ in range(8)))}))
        >>> find_layer(net, 0.25, whose="student")[0]
        '0.blocks.1'
    """
    if isinstance(where, str):
        named = dict(module.named_modules())
        if where in named and where:
            return where, named[where]
        nearest = difflib.get_close_matches(where, named, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join([*named][1:6])}, ..."
        raise HeadstartError(f"{whose}: {type(module).__name__} has no layer {where!r}; {hint}")
    if not 0.0 < where <= 1.0:
        raise HeadstartError(f"{whose}: layer={where} must be a path, or a fraction of the depth above 0 and at most 1")
    path, stack = _longest_stack(module)
    if stack is None:
        raise HeadstartError(
            f"{whose}: {type(module).__name__} has no stack of layers (ModuleList, Sequential) to take a fraction of; "
            "give the path of a layer"
        )
    index = max(0, round(where * len(stack)) - 1)
    name, layer = list(stack.named_children())[index]
    return f"{path}.{name}" if path else name, layer


def _longest_stack(module: nn.Module) -> tuple[str, nn.ModuleList | nn.Sequential | None]:
    """The stack with most layers of one class; of equal ones the outermost. A list of one is a stack, too."""
    best: tuple[int, str, nn.ModuleList | nn.Sequential | None] = (0, "", None)
    for path, part in module.named_modules():
        if isinstance(part, nn.ModuleList | nn.Sequential):
            kinds = [type(layer) for layer in part]
            alone = len(kinds) == 1 and isinstance(part, nn.Sequential)
            if len(set(kinds)) == 1 and not alone and len(kinds) > best[0]:
                best = (len(kinds), path, part)
    return best[1:]
