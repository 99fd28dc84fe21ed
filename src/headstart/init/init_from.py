"""A student's first weights, out of an older model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init.filling.batchnorm import retake
from headstart.init.filling.check import outputs_kept
from headstart.init.filling.fill import inherited_entries
from headstart.init.filling.observe import give
from headstart.init.filling.transfer import described, write
from headstart.init.inherited import Inherited
from headstart.init.picking.axes import Rule
from headstart.init.plan import Take
from headstart.init.planned import Asked, Forward, Plan, planned
from headstart.init.refuse import check_options, check_sides
from headstart.init.side import Side


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
    writing: str = "together",
) -> Inherited:
    """Fill a student's fresh weights from an older model, also one of another shape, in place.

    What an axis takes is the same wherever it occurs: evenly spaced entries where the source is larger (Xu et al. 2023,
    arXiv 2311.18823), copies where it is smaller, divided where they are read, so that whole multiples preserve the
    outputs (Chen et al. 2016, arXiv 1511.05641; HyperCloning, arXiv 2409.12903). Attention heads stay whole, heads of
    queries with the keys that they look at. Fewer layers are strided, more are the stack repeated.

    Args:
        student: Has fresh weights; those that find nothing in the source stay as they are.
        source: The older model, or its tensors by name. A mapping may read a tensor when it is asked for: each is read
            once, if the mapping has `shapes`, a mapping from names to shapes; else once more for its shape.
        how: "auto" takes for each axis the way that its sizes ask for. "copy", "select" and "grow" refuse a source
            that is not of the same shape, not larger, not smaller.
        scores: What is kept where the source is larger: "spaced"; "first"; "activation", the units that give most on
            `batches` (Minitron, arXiv 2407.14679). Layers are strided with "activation" too.
        batches: For `scores="activation"`, for `compensate`, and for BatchNorm, whose statistics are taken anew from
            them where channels or layers were left out. On the device of the models. They are gone through twice. Of a
            family that is not known, the first shows whether a copy or a growth gives the source's outputs.
        forward: How a model is given a batch. By default of a tuple or list the first item; a mapping as keywords, a
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
        writing: "together": all weights are made before the first is written, so that a call that raises changes
            nothing; this takes the memory of the student twice. "each": as soon as it is made; where the source's
            values turn out not to be finite, or a batch cannot be given, a student is left that is partly written, to
            be thrown away. "nothing":
            only what would be done is told; no weights are read.

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
    check_options(how, scores, compensate, batches, shrink, perturb, writing)
    sides = Side(student, student_config, "student"), Side(source, source_config, "source")
    check_sides(*sides)
    looked = batches if batches is None or isinstance(batches, list) else list(batches)
    asked = Asked(Rule(how, scores == "first"), scores == "activation", compensate, looked, forward or give, rows or {})
    plan = planned(*sides, asked)
    if (shrink, perturb) != (1.0, 0.0) and not plan.unchanged:
        raise InitError("shrink and perturb are for a source of the student's shape, and this one has another")
    inherited = Inherited(
        tuple(described(take, *sides, plan) for take in plan.takes if sides[0].is_weight(take.name)),
        _share(plan.takes, sides[0]),
        plan.chosen,
        (*plan.notes, *plan.unseen),
        plan.ways,
    )
    _check_share(inherited, require)
    if writing == "nothing":
        return inherited
    before = _write(*sides, plan, (shrink, perturb), together=writing == "together")
    try:
        if plan.left_out:
            return _with_batchnorm(inherited, student, asked)
        if plan.exact and (shrink, perturb) == (1.0, 0.0) and isinstance(source, nn.Module):
            return _checked(inherited, student, source, asked, plan)
        return inherited
    except BaseException:
        _swap(before)
        raise


def _write(
    student: Side, source: Side, plan: Plan, mix: tuple[float, float], *, together: bool
) -> list[tuple[Tensor, Tensor]]:
    """All that does not stay as it is; together: nothing is written before all has been made.

    Returns:
        Together: what was written, and beside it what was there before.
    """
    made: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for take in plan.takes:
            if take.source is not None or take.zeroed:
                current = student.tensors[student.names[take.name]]
                out = torch.empty_like(current) if together else current
                write(take, student, source, plan, out, mix)
                if together:
                    made.append((current, out))
    _swap(made)
    return made


def _swap(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Give each of two tensors the other's values; in between one alone is kept a third time."""
    with torch.no_grad():
        for one, other in pairs:
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)


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


def _with_batchnorm(inherited: Inherited, student: nn.Module, asked: Asked) -> Inherited:
    """BatchNorm's statistics anew, where channels or layers have changed."""
    if asked.batches and retake(student, asked.batches, asked.forward):
        return replace(inherited, notes=(*inherited.notes, "BatchNorm: statistics taken anew from the batches"))
    if any(row.name.endswith("running_mean") for row in inherited.tensors):
        note = "BatchNorm: statistics are the source's; give batches to take them anew"
        return replace(inherited, notes=(*inherited.notes, note))
    return inherited


def _checked(inherited: Inherited, student: nn.Module, source: nn.Module, asked: Asked, plan: Plan) -> Inherited:
    """Whether a student of no known family gives the source's outputs, if there is a batch to see it on."""
    found = outputs_kept(student, source, asked.batches[0], asked.forward) if asked.batches else ""
    if not found:
        return inherited
    return replace(inherited, notes=(*(note for note in inherited.notes if note not in plan.unseen), found))
