"""Names of weights as wrappers and parents leave them, and the places of a file that fit a module."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor, nn

Value = TypeVar("Value")

# What DDP and DataParallel, torch.compile, FSDP, activation checkpointing, and Fabric call what they wrap.
_WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_original_module")
)
# What a program calls its model, beside which it may keep others (of a loss, of metrics).
_PARENTS = frozenset(("model", "net", "network", "backbone", "student", "teacher", "classifier_model", "_model"))
_AVERAGED = re.compile(r"(^|[._-])(ema|swa|averaged|average|avg|shadow|moving)([._-]|\d|$)", re.IGNORECASE)
_COUNTS = ("n_averaged", "num_batches_tracked")  # of AveragedModel, and of batch norms: no weights


def unwrapped(name: str) -> str:
    """A weight's name without what wrappers add to it, at its beginning or inside.

    Example:
        >>> unwrapped("module._orig_mod.blocks.0._checkpoint_wrapped_module.weight")
        'blocks.0.weight'
    """
    *parents, last = name.split(".")
    return ".".join([*(part for part in parents if part not in _WRAPPERS), last])


def is_averaged(place: str) -> bool:
    """Whether weights in this place of a file are, by its name, averaged over training.

    Example:
        >>> is_averaged("state_dict_ema"), is_averaged("ema_model"), is_averaged("schema")
        (True, True, False)
    """
    return _AVERAGED.search(place) is not None


def without_wrappers(named: Mapping[str, Value]) -> dict[str, Value]:
    """By their names without wrappers; as they are where two names would become one."""
    plain = {unwrapped(name): value for name, value in named.items()}
    return plain if len(plain) == len(named) else dict(named)


def fitting(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The places in a state dict that hold all weights of a module and no others, each by the module's names.

    A place is the prefix that its names have: empty, or of the module's place in another one. What lies beside it has
    to be another model's or a loss's: the place has a usual name for the whole (`model.`, `student.`), so that no part
    of a model is taken for the whole.
    """
    own: dict[str, str] = {name: name for name in module.state_dict()}
    if weights.keys() == own.keys():  # also where the module itself has what a wrapper would have: self.module
        return {"": dict(weights)}
    found: dict[str, dict[str, Tensor]] = {}
    for wanted, given in ((own, dict(weights)), (without_wrappers(own), without_wrappers(weights))):
        for prefix in _prefixes(wanted, given):
            inner = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
            extra = [name for name in inner.keys() - wanted.keys() if name not in _COUNTS]
            beside = len(given) - len(inner) - sum(name.rpartition(".")[2] in _COUNTS for name in given)
            if extra or (beside > 0 and not _is_whole(prefix)):
                continue
            found.setdefault(prefix, {wanted[name]: value for name, value in inner.items() if name in wanted})
        if found:
            break
    complete = {place: inner for place, inner in found.items() if not lacking(module, inner)}
    return complete


def lacking(module: nn.Module, weights: Iterable[str]) -> list[str]:
    """The names of a module's weights that are not there, nor share a tensor with one that is."""
    state, given = module.state_dict(), set(weights)
    there = {value.data_ptr() for name, value in state.items() if name in given}
    return [
        name
        for name, value in state.items()
        if name not in given and value.data_ptr() not in there and name.rpartition(".")[2] not in _COUNTS
    ]


def _prefixes(wanted: Mapping[str, str], given: Iterable[str]) -> list[str]:
    """Before which a module's names occur, most of them first."""
    counts: Counter[str] = Counter()
    for name in given:
        start = 0
        while True:
            if name[start:] in wanted:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1
            if not start:
                break
    return [prefix for prefix, _ in counts.most_common()]


def _is_whole(prefix: str) -> bool:
    parts = [part for part in prefix.split(".") if part and part not in _WRAPPERS]
    return bool(parts) and all(part in _PARENTS or is_averaged(part) for part in parts)
