"""The checks of a training with teachers: its loss, its time and its memory. Pure functions."""

from __future__ import annotations

from headstart.teachers.doctor.check import Check, passed

_ROUNDING = 1e-3  # of a loss or gradient that should be 0, relative to one that should not
_TINY = 1e-6  # of a loss or gradient, where both are 0 but for rounding


def check_zero_at_agreement(value: float, gradient: float, usual_value: float, usual_gradient: float) -> Check:
    """The loss of a teacher against itself is 0, and so is its gradient.

    Args:
        value: The loss with the teacher's own logits as the student's.
        gradient: Norm of its gradient there.
        usual_value: The loss with the student's logits.
        usual_gradient: Norm of the gradient there.
    """
    name = "loss at agreement"
    finding = f"a teacher against itself: loss {value:.2g}, gradient {gradient:.2g}"
    finding += f" (the student: {usual_value:.2g}, {usual_gradient:.2g})"
    if gradient > _ROUNDING * usual_gradient + _TINY:
        advice = "the loss pulls a student that agrees away from its teacher; check its direction and its arguments"
        return Check(name=name, status="fail", finding=finding, advice=advice)
    if abs(value) > _ROUNDING * abs(usual_value) + _TINY:
        advice = "the gradient is right, but the loss is not 0 where student and teacher agree; its values mislead"
        return Check(name=name, status="warn", finding=finding, advice=advice)
    return passed(name, finding)


def check_micro_batches(difference: float, tolerance: float) -> Check:
    """Cutting a batch does not change the gradient.

    Args:
        difference: Norm of the difference between the gradient of a batch and the sum over its halves, over the former.
        tolerance: What the dtype's rounding allows.
    """
    name = "micro-batches"
    finding = f"a batch in two halves gives the same gradient within {difference:.1e}"
    if difference <= tolerance:
        return passed(name, finding)
    return Check(
        name=name,
        status="warn",
        finding=f"a batch in two halves gives another gradient, by {difference:.1%}",
        advice="the loss (as `dist`) or the model couples the rows of a batch: results depend on how batches are cut, "
        "so keep the micro-batch size fixed when comparing runs",
    )


def check_memory(needed: int, available: int) -> Check:
    """Memory will do.

    Args:
        needed: Bytes of a distilling step and the optimiser's state.
        available: Bytes that the device has for it.
    """
    finding = f"about {needed / 1e9:.2f} GB of {available / 1e9:.2f} GB"
    if needed <= 0.9 * available:
        return passed("memory", finding)
    return Check(
        name="memory",
        status="fail" if needed > available else "warn",
        finding=finding,
        advice="make micro-batches smaller, hold teachers in bf16 (`dtype`), or take fewer or smaller ones",
    )


def check_cost(step: float, forward: float, distilled: float) -> Check:
    """What distilling costs, and what it has to bring to be worth it: speed-up = g / (1 + rho * f).

    Args:
        step: Seconds of the student's forward and backward.
        forward: Seconds of the teachers' forwards at a distilled step.
        distilled: f, the fraction of steps that are distilled.
    """
    rho = forward / step
    overhead = rho * distilled
    finding = (
        f"teachers' forward {forward * 1e3:.1f} ms, student's step {step * 1e3:.1f} ms (rho {rho:.2f}); "
        f"{distilled:.0%} of steps distilled: about {overhead:.0%} more time, worth it from {1 + overhead:.2f}x fewer "
        "steps on"
    )
    if overhead <= 0.3:
        return passed("cost", finding)
    return Check(
        name="cost",
        status="warn",
        finding=finding,
        advice="make it cheaper: stop earlier, every=2, a smaller teacher, its `dtype`, `fold`, `size` or `compile`, "
        "or cached targets",
    )


def check_precision(slow: str) -> Check | None:
    """A teacher does not compute in a precision that the device has no hardware for; None where it does not.

    Args:
        slow: What that costs, in words; empty where it costs nothing.
    """
    if not slow:
        return None
    return Check(
        name="precision",
        status="warn",
        finding=slow.removeprefix("precision bf16: "),
        advice="give it dtype fp32 here, or leave autocast out",
    )
