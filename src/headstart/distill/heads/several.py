"""Models with several heads: which outputs belong to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from headstart.distill.inputs import logits_in
from headstart.errors import HeadstartError

Several: TypeAlias = Mapping[str, Tensor] | Sequence[Tensor]
Names: TypeAlias = tuple[str, ...] | tuple[int, ...]  # of the heads; none of them: there is one head, without a name

_EXAMPLE = "{'start_logits': ..., 'end_logits': ...}"


class Output(NamedTuple):
    """What one head gave, with its labels."""

    logits: Tensor
    labels: Tensor | None


def outputs_of(logits: Tensor | Several, labels: Any) -> tuple[Names, list[Output]]:
    """The heads of a student: their names, and what each gave.

    Args:
        logits: One tensor; a mapping of them by name; or several in order, which the order names.
        labels: In the same form, or None. A mapping may leave heads without labels out.

    Raises:
        HeadstartError: There are no heads, one is no tensor, or the labels are of other heads.

    Example:
        >>> import torch
        >>> names, outputs = outputs_of({"start": torch.zeros(2, 3), "end": torch.ones(2, 3)}, None)
        >>> names, len(outputs)
        (('start', 'end'), 2)
    """
    if isinstance(logits, Tensor):
        if labels is not None and not isinstance(labels, Tensor):
            raise HeadstartError(
                f"labels are {type(labels).__name__}, and the logits one tensor; give one tensor of labels, or the "
                f"logits of several heads by name, {_EXAMPLE}"
            )
        return (), [Output(logits, labels)]
    names, given = _named("logits", logits)
    theirs: dict[Any, Any] = {}
    if labels is not None:
        label_names, tensors = _named("labels", labels)
        fits = set(label_names) <= set(names) if isinstance(logits, Mapping) else label_names == names
        if not fits:
            raise HeadstartError(f"labels are for the heads {_told(label_names)}, the logits for {_told(names)}")
        theirs = dict(zip(label_names, tensors, strict=True))
    return names, [Output(one, theirs.get(name)) for name, one in zip(names, given, strict=True)]


def heads_in(outputs: Any, names: Names) -> list[Tensor] | str:
    """What a module gave for the heads of these names, in their order; else what it has, in words."""
    if isinstance(names[0], int):
        if isinstance(outputs, (tuple, list)) and len(outputs) == len(names) and _tensors(outputs):
            return list(outputs)
        return f"{len(outputs)} outputs" if isinstance(outputs, (tuple, list)) else _form(outputs)
    found = outputs if isinstance(outputs, Mapping) else getattr(outputs, "__dict__", {})
    given = [found[name] for name in names if isinstance(found.get(name), Tensor)]
    if len(given) == len(names):
        return given
    return _told(tuple(found)) if found else _form(outputs)


def _named(what: str, several: Any) -> tuple[Names, list[Tensor]]:
    if isinstance(several, Mapping):
        names, given = tuple(several), list(several.values())
    elif isinstance(several, (tuple, list)):
        names, given = tuple(range(len(several))), list(several)
    else:
        one = logits_in(several)
        raise HeadstartError(
            f"{what} must be a tensor, or for several heads a mapping or a tuple of tensors, not "
            f"{type(several).__name__}" + ("" if one is None else "; give its `logits`")
        )
    others = [name for name in names if not str(name).endswith("logits")]
    if "logits" in names and others:
        raise HeadstartError(
            f"{what}: has 'logits' and {_told(others)}, as a model's whole output; give its 'logits' alone, or of "
            f"several heads the logits by name, {_EXAMPLE}"
        )
    if not names:
        raise HeadstartError(f"{what}: no heads at all; give a tensor, or several by name, {_EXAMPLE}")
    for name, one in zip(names, given, strict=True):
        if not isinstance(one, Tensor):
            raise HeadstartError(f"{what}: head {name!r} is {type(one).__name__}, and no tensor; leave it out")
    return names, given


def _tensors(given: Sequence[Any]) -> bool:
    return all(isinstance(one, Tensor) for one in given)


def _told(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names))


def _form(outputs: Any) -> str:
    return "one tensor" if isinstance(outputs, Tensor) else type(outputs).__name__
