"""A student's first weights, out of an older model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init.axes import Axes, Rule
from headstart.init.batchnorm import retake
from headstart.init.by_size import BySize
from headstart.init.compensate import compensated
from headstart.init.fill import fill, inherited_entries
from headstart.init.inherited import Inherited, InheritedTensor
from headstart.init.notes import notes_of
from headstart.init.observe import Observed, give, observe
from headstart.init.picks import kind, whole
from headstart.init.plan import Take, takes_by_roles
from headstart.init.refuse import check_options, check_rows, check_sides
from headstart.init.roles import OF_CONTENT
from headstart.init.side import Side, all_finite
from headstart.init.view import View, views

Forward = Callable[[nn.Module, Any], Any]


def init_from(
    student: nn.Module,
    source: nn.Module | Mapping[str, Tensor],
    how: str = "auto",
    *,
    scores: str = "spaced",
    batches: Iterable[Any] | None = None,
    forward: Forward | None = None,
    compensate: bool = False,
    shrink: float = 1.0,
    perturb: float = 0.0,
    rows: Mapping[str, Tensor] | None = None,
    source_config: Any = None,
    student_config: Any = None,
    require: float = 0.0,
) -> Inherited:
    """Fill a student's fresh weights from an older model, also one of another shape, in place.

    What an axis takes is the same wherever it occurs: evenly spaced entries where the source is larger (Xu et al. 2023,
    arXiv 2311.18823), copies where it is smaller, divided where they are read, so that whole multiples preserve the
    outputs (Chen et al. 2016, arXiv 1511.05641; HyperCloning, arXiv 2409.12903). Attention heads stay whole, heads of
    queries with the keys that they look at. Fewer layers are strided, more are the stack repeated.

    Nothing is changed if the call raises before it writes; all refusals come before.

    Args:
        student: Has fresh weights; those that find nothing in the source stay as they are.
        source: The older model, or its tensors by name. A mapping may read a tensor when it is asked for: each is read
            once, if the mapping has `shapes`, a mapping from names to shapes; else once more for its shape.
        how: "auto" takes for each axis the way that its sizes ask for. "copy", "select" and "grow" refuse a source
            that is not of the same shape, not larger, not smaller.
        scores: What is kept where the source is larger: "spaced"; "first"; "activation", the units that give most on
            `batches` (Minitron, arXiv 2407.14679). Layers are strided with "activation" too.
        batches: For `scores="activation"`, for `compensate`, and for BatchNorm, whose statistics are taken anew from
            them where channels or layers were left out. On the device of the models. They are gone through twice.
        forward: How a model is given a batch. By default a mapping as keywords, of a tuple or list the first item, a
            tensor as it is.
        compensate: The layers that read what attention and MLP give are fitted by least squares, so that with some of
            their inputs they give the nearest to what they gave with all, on `batches`.
        shrink: For a source of the same shape: parameters become `shrink` times the source's ...
        perturb: ... plus `perturb` times the fresh ones (Ash & Adams 2020, arXiv 1910.08475: 0.4 and 0.1).
        rows: Vocabularies and classes matched by content: by "vocabulary" or "classes", or by a parameter's name, for
            each of the student's rows the source's, or -1: stays fresh. Without it rows are taken as they are if there
            are equally many, and else stay fresh.
        source_config: What the source is configured by, an object or a mapping: attention heads are not in tensors. By
            default `source.config`.
        student_config: The same of the student.
        require: The share of the student's parameters that has to come from the source, 0 to 1.

    Returns:
        What was done, tensor by tensor.

    Raises:
        InitError: The source is unrelated to the student, of a shape that `how` does not take, quantised, or not
            finite; heads cannot be kept whole; less than `require` would be inherited; an option is wrong.

    Example:
        >>> from headstart.tasks.images.resnet import ResNet
        >>> student, source = ResNet(8, classes=10, width=8), ResNet(14, classes=10, width=16)
        >>> inherited = init_from(student, source)
        >>> inherited.share, inherited.indices["stage0"], inherited.indices["layer1"]
        (1.0, (0, 2, 4, 6, 8, 10, 12, 14), (0,))
    """
    check_options(how, scores, compensate, batches, shrink, perturb)
    sides = Side(student, student_config, "student"), Side(source, source_config, "source")
    check_sides(*sides)
    looked = batches if batches is None or isinstance(batches, list) else list(batches)
    asked = _Asked(
        Rule(how, scores == "first"), scores == "activation", compensate, looked, forward or give, rows or {}
    )
    plan = _plan(*sides, asked)
    if (shrink, perturb) != (1.0, 0.0) and not plan.unchanged:
        raise InitError("shrink and perturb are for a source of the student's shape, and this one has another")
    made = [_made(take, *sides, plan, (shrink, perturb)) for take in plan.takes]
    inherited = Inherited(
        tuple(row for take, (row, _) in zip(plan.takes, made, strict=True) if sides[0].is_weight(take.name)),
        _share(plan.takes, sides[0]),
        plan.chosen,
        plan.notes,
    )
    _check_share(inherited, require)
    with torch.no_grad():
        for take, (_, value) in zip(plan.takes, made, strict=True):
            if value is not None:
                sides[0].tensors[sides[0].names[take.name]].copy_(value)
    return _with_batchnorm(inherited, student, asked) if plan.left_out else inherited


@dataclass(frozen=True)
class _Asked:
    rule: Rule
    scored: bool
    compensate: bool
    batches: list[Any] | None
    forward: Forward
    rows: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Plan:
    takes: list[Take]
    chosen: dict[str, tuple[int, ...]]
    unchanged: bool
    left_out: bool
    notes: tuple[str, ...] = ()
    moments: Mapping[str, Tensor] = field(default_factory=dict)


def _plan(student: Side, source: Side, asked: _Asked) -> _Plan:
    seen = views(student, source)
    if seen is not None:
        return _by_roles(*seen, asked)
    if asked.scored or asked.compensate:
        raise InitError(
            "scores='activation' and compensate need to know which layers read what, and the student is of no family "
            "whose roles are known; take scores='spaced' without compensate"
        )
    check_rows(asked.rows, set(), student)
    by_size = BySize(student, source, asked.rule, asked.rows)
    takes = by_size.takes()
    left_out = any(source > student for source, student in by_size.picks)
    return _Plan(takes, by_size.chosen(), not by_size.picks, left_out)


def _by_roles(student: View, source: View, asked: _Asked) -> _Plan:
    content = {axis.base for axis in student.sizes if axis.base in OF_CONTENT}
    check_rows(asked.rows, content, student.side)
    # Once without scores, so that what is refused is refused before the source has to work.
    axes = Axes(student, source, asked.rule, asked.rows)
    axes.all_the_same()
    seen = Observed()
    if asked.scored or asked.compensate:
        seen = observe(source, asked.batches or [], asked.forward, scores=asked.scored, moments=asked.compensate)
        axes = Axes(student, source, replace(asked.rule, scores=seen.scores), asked.rows)
    takes = takes_by_roles(student, source, axes, asked.rows)
    left_out = any(student.sizes[axis] < source.sizes.get(axis, 0) for axis in student.sizes) or any(
        student.stacks[stack] != source.stacks.get(stack) for stack in student.stacks
    )
    unchanged = axes.all_the_same() and student.stacks == source.stacks
    return _Plan(takes, axes.chosen(), unchanged, left_out, notes_of(student, source, axes), seen.moments)


def _made(
    take: Take, student: Side, source: Side, plan: _Plan, mix: tuple[float, float]
) -> tuple[InheritedTensor, Tensor | None]:
    """What became of a tensor, and its values; None: it stays as it is."""
    name = student.names[take.name]
    current = student.tensors[name]
    shape = tuple(current.shape)
    if take.zeroed:
        return InheritedTensor(name, (), "zeroed", shape, reason=take.reason), torch.zeros_like(current)
    if take.source is None:
        return InheritedTensor(name, (), "fresh", shape, reason=take.reason), None
    origin = source.names[take.source]
    if not current.is_floating_point():
        return InheritedTensor(name, (origin,), "copied", shape), source.tensors[origin]
    values, what = source.read(take.source), kind(*take.picks)
    fresh = sum(pick.fresh for pick in take.picks)
    row = InheritedTensor(
        name, (origin,), what, shape, tuple(values.shape), f"{fresh} rows stay fresh" if fresh else ""
    )
    if take.source in plan.moments:
        values, take = _compensated(take, values, plan.moments[take.source])
        row = replace(row, what=f"{what} and compensated") if values.shape != row.source_shape else row
    shrink, perturb = mix if isinstance(current, nn.Parameter) else (1.0, 0.0)
    value = fill(take, values, current, shrink=shrink, perturb=perturb)
    if not all_finite(value):
        raise InitError(f"source: {origin} has values too large for the student's {current.dtype}; train it in another")
    return row, value


def _compensated(take: Take, values: Tensor, moment: Tensor) -> tuple[Tensor, Take]:
    """The weight as it is best with the inputs that are kept; as it is, where all are."""
    dim = take.divided.index(True)
    pick = take.picks[dim]
    if pick.what != "selected":
        return values, take
    picks = tuple(whole(len(pick.index)) if number == dim else other for number, other in enumerate(take.picks))
    return compensated(values, moment, pick.index, dim), replace(take, picks=picks)


def _share(takes: list[Take], student: Side) -> float:
    parameters = {name: value for name, value in student.tensors.items() if isinstance(value, nn.Parameter)}
    total = sum({id(value): value.numel() for value in parameters.values()}.values())
    taken = sum(inherited_entries(take) for take in takes if take.source and student.names[take.name] in parameters)
    return taken / total if total else 0.0


def _check_share(inherited: Inherited, require: float) -> None:
    matrices = [row for row in inherited.tensors if len(row.shape) > 1]
    related = any(row.sources for row in matrices or inherited.tensors)
    if related and inherited.share >= require:
        return
    fresh = sorted((row for row in inherited.tensors if not row.sources), key=lambda row: -math.prod(row.shape))
    named = "; ".join(f"{row.name} ({row.reason})" for row in fresh[:3])
    if not related:
        raise InitError(f"source: unrelated to the student, none of whose weights it fits: {named}")
    raise InitError(
        f"require={require:g}: only {inherited.share:.1%} of the student's parameters would come from the source. "
        f"The largest that would not: {named}. Give a source nearer to the student, or a smaller require"
    )


def _with_batchnorm(inherited: Inherited, student: nn.Module, asked: _Asked) -> Inherited:
    """BatchNorm's statistics anew, where channels or layers have changed."""
    if asked.batches and retake(student, asked.batches, asked.forward):
        return replace(inherited, notes=(*inherited.notes, "BatchNorm: statistics taken anew from the batches"))
    if any(row.name.endswith("running_mean") for row in inherited.tensors):
        note = "BatchNorm: statistics are the source's; give batches to take them anew"
        return replace(inherited, notes=(*inherited.notes, note))
    return inherited
