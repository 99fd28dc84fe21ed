"""Cross-entropy and KL on CUDA: one program a row, which reads the logits twice and writes the gradient once."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_BLOCK, _WARPS = 4096, 8
_IGNORED = tl.constexpr(-100)


def launch(
    student: Tensor,
    teacher: Tensor | None,
    labels: Tensor,
    keep: Tensor | None,
    factors: Tensor,
    values: Tensor,
    gradient: Tensor,
    *,
    temperature: float,
    label_smoothing: float,
) -> None:
    """Fill in values and gradient as `rows.fill` does; values are float32, and logits of a row lie side by side.

    Args:
        student: As in `rows.Rows`.
        teacher: Logits, `[rows, classes]`; None: the task loss alone.
        labels: As in `rows.Rows`.
        keep: As in `rows.Rows`.
        factors: As in `rows.fill`.
        values: As in `rows.fill`.
        gradient: As in `rows.fill`.
        temperature: T of the distillation loss.
        label_smoothing: As in `rows.Terms`.
    """
    rows, classes = student.shape
    target = student if teacher is None else teacher
    _losses_of_a_row[(rows,)](
        student,
        target,
        labels,
        labels if keep is None else keep,
        factors,
        values,
        gradient,
        rows,
        classes,
        student.stride(0),
        target.stride(0),
        gradient.stride(0),
        temperature,
        label_smoothing,
        distills=teacher is not None,
        picks=keep is not None,
        block=_BLOCK,
        num_warps=_WARPS,
    )


@triton.jit
def _losses_of_a_row(
    student,
    teacher,
    labels,
    keep,
    factors,
    values,
    gradient,
    rows,
    classes,
    student_stride,
    teacher_stride,
    gradient_stride,
    temperature,
    smoothing,
    distills: tl.constexpr,
    picks: tl.constexpr,
    block: tl.constexpr,
):  # without annotations: Triton would have to know them
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    student += row * student_stride
    teacher += row * teacher_stride
    gradient += row * gradient_stride
    counted = label != _IGNORED
    kept = counted
    if picks:
        kept = counted & (tl.load(keep + row) != 0)
    # Masks compare with an end: `and` of a block and a number is no mask to Triton's interpreter.
    end = tl.where(counted, classes, 0)
    teacher_end = tl.where(kept, classes, 0)

    # First reading: the largest logits so far, and sums of exponentials relative to them.
    top = tl.full((), -3.0e38, tl.float32)  # finite, as the difference of two infinities is none
    teacher_top = top
    hard = tl.zeros((), tl.float32)
    soft, total, target, cross = hard, hard, hard, hard
    for begin in range(0, end, block):
        index = begin + tl.arange(0, block)
        inside = index < classes
        s = tl.load(student + index, mask=inside, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(top, tl.max(s, 0))
        hard = hard * tl.exp(top - higher) + tl.sum(tl.exp(s - higher), 0)
        total += tl.sum(tl.where(inside, s, 0.0), 0)
        if distills:
            soft = soft * tl.exp((top - higher) / temperature) + tl.sum(tl.exp((s - higher) / temperature), 0)
            t = tl.load(teacher + index, mask=index < teacher_end, other=0.0).to(tl.float32)
            t = tl.where(inside, t, -float("inf"))
            teacher_higher = tl.maximum(teacher_top, tl.max(t, 0))
            shrink = tl.exp((teacher_top - teacher_higher) / temperature)
            p = tl.exp((t - teacher_higher) / temperature)
            target = target * shrink + tl.sum(p, 0)
            cross = cross * shrink + tl.sum(tl.where(inside, p * (t - s), 0.0), 0)
            teacher_top = teacher_higher
        top = higher

    # The losses. A label that is no class's index makes them NaN.
    valid = counted & (label >= 0) & (label < classes)
    at_label = tl.load(student + label, mask=valid, other=float("nan")).to(tl.float32)
    task = top + tl.log(hard) - (1.0 - smoothing) * at_label
    task -= tl.where(smoothing > 0.0, smoothing * total / classes, 0.0)  # a class masked with -inf times 0 is NaN
    task_factor = tl.load(factors + row)
    tl.store(values + row, task)
    tl.store(values + 3 * rows + row, (at_label == top).to(tl.float32))
    hard_factor = task_factor / hard
    soft_factor, target_factor = 0.0, 0.0
    if distills:
        mean = cross / target + top - teacher_top
        tl.store(values + rows + row, temperature * (mean + temperature * tl.log(soft / target)))
        teacher_at_label = tl.load(teacher + label, mask=valid & kept, other=0.0).to(tl.float32)
        tl.store(values + 4 * rows + row, (teacher_at_label == teacher_top).to(tl.float32))
        distill_factor = temperature * tl.load(factors + rows + row)
        soft_factor, target_factor = distill_factor / soft, distill_factor / target

    # Second reading: the gradient, and whether one class is the top of both.
    agree = tl.zeros((), tl.int32)
    for begin in range(0, classes, block):
        index = begin + tl.arange(0, block)
        inside = index < end
        s = tl.load(student + index, mask=inside, other=0.0).to(tl.float32)
        slope = hard_factor * tl.exp(s - top) - task_factor * smoothing / classes
        slope -= tl.where(index == label, task_factor * (1.0 - smoothing), 0.0)
        if distills:
            t = tl.load(teacher + index, mask=index < teacher_end, other=0.0).to(tl.float32)
            slope += soft_factor * tl.exp((s - top) / temperature)
            slope -= target_factor * tl.exp((t - teacher_top) / temperature)
            both = inside & (s == top) & (t == teacher_top)
            agree = tl.maximum(agree, tl.max(both.to(tl.int32), 0))
        tl.store(gradient + index, tl.where(counted, slope, 0.0).to(gradient.dtype.element_ty), mask=index < classes)
    if distills:
        tl.store(values + 2 * rows + row, agree.to(tl.float32))
