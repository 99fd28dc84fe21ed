"""From a plan to the student's weights: what becomes of each tensor, and its values."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init.filling.compensate import compensated
from headstart.init.filling.fill import fill
from headstart.init.inherited import InheritedTensor
from headstart.init.picking.grids import resampled
from headstart.init.picking.picks import kind, whole
from headstart.init.plan import Take
from headstart.init.planned import Plan
from headstart.init.side import Side, all_finite


def described(take: Take, student: Side, source: Side, plan: Plan) -> InheritedTensor:
    """What becomes of a tensor; nothing is read."""
    name, shape = student.names[take.name], student.shape(take.name)
    if take.zeroed:
        return InheritedTensor(name, (), "zeroed", shape, reason=take.reason)
    if take.source is None:
        return InheritedTensor(name, (), "fresh", shape, reason=take.reason)
    origin = (source.names[take.source],)
    if not student.is_weight(take.name):
        return InheritedTensor(name, origin, "copied", shape)
    what, fresh = kind(*take.picks), sum(pick.fresh for pick in take.picks)
    if take.source in plan.moments and _refitted(take) is not None:
        what = f"{what} and compensated"
    reason = f"{fresh} rows stay fresh" if fresh else ""
    return InheritedTensor(name, origin, what, shape, source.shape(take.source), reason)


def write(take: Take, student: Side, source: Side, plan: Plan, out: Tensor, mix: tuple[float, float]) -> None:
    """Write the values of a tensor that does not stay as it is.

    Args:
        take: What it takes.
        student: The student.
        source: The source.
        plan: The plan that `take` is of.
        out: Where to, of the shape of the student's tensor; may be that itself.
        mix: `shrink` and `perturb`.

    Raises:
        InitError: The source's values are quantised, not there, not finite, or too large for the student's dtype.
    """
    current = student.tensors[student.names[take.name]]
    if take.source is None:
        out.zero_()
    elif not current.is_floating_point():
        out.copy_(source.tensors[source.names[take.source]])
    else:
        values = source.read(take.source)
        fitted, now = _prepared(take, values, plan)
        shrink, perturb = mix if isinstance(current, nn.Parameter) else (1.0, 0.0)
        finite = fill(now, fitted, current, out, shrink=shrink, perturb=perturb)
        if not finite and (_has_to_be_finite(take.name, current) or all_finite(values)):
            raise _not_finite(source.names[take.source], values, current)


def _prepared(take: Take, values: Tensor, plan: Plan) -> tuple[Tensor, Take]:
    """The source's tensor on the student's grid, and as it is best with the inputs that are kept."""
    if plan.grids is not None:
        for dim, pick in enumerate(take.picks):
            if pick.what == "resampled":
                values, take = resampled(values, dim, *plan.grids), _taken_whole(take, dim)
    moment = plan.moments.get(take.source or "")
    read = None if moment is None else _refitted(take)
    if moment is not None and read is not None:
        values = compensated(values, moment, take.picks[read].index, read)
        take = _taken_whole(take, read)
    return values, take


def _refitted(take: Take) -> int | None:
    """The dimension that is read, if inputs are left out."""
    dim = take.divided.index(True)
    return dim if take.picks[dim].what == "selected" else None


def _taken_whole(take: Take, dim: int) -> Take:
    picks = (whole(len(pick.index)) if number == dim else pick for number, pick in enumerate(take.picks))
    return replace(take, picks=tuple(picks))


def _has_to_be_finite(name: str, current: Tensor) -> bool:
    """What is learnt or measured; a buffer may hold infinities on purpose, such as a causal mask."""
    return isinstance(current, nn.Parameter) or name.endswith(("running_mean", "running_var"))


def _not_finite(name: str, values: Tensor, current: Tensor) -> InitError:
    """What to say, by whether the source's values were finite."""
    if all_finite(values):
        return InitError(f"source: {name} has values too large for the student's {current.dtype}; train it in another")
    return InitError(
        f"source: {name} has values that are not finite (nan or inf): it comes from a training that diverged, or a "
        "damaged file; give an earlier checkpoint"
    )
