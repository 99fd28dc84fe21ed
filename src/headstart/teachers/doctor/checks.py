"""The checks: from what was measured to a finding and what to do. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from headstart.teachers.doctor.check import Check, passed

_CLEAR = 3.0  # standard errors that make a difference one not to doubt


def check_frozen(training: Sequence[str], changed: Sequence[str], spread: float) -> Check:
    """A teacher is in eval mode, its buffers stay, and it says the same thing twice.

    Args:
        training: Names of its modules that are still in train mode after a forward.
        changed: Names of its parameters and buffers that forwards changed.
        spread: Largest difference of its logits between two forwards of one batch, over their standard deviation.
    """
    name = "frozen"
    if training:
        finding = (
            f"{len(training)} of its modules are in train mode in the forward, the first: {training[0] or 'itself'}"
        )
        return Check(
            name=name, status="fail", finding=finding, advice="its forward must not call train(); give another module"
        )
    if changed:
        finding = f"its forward changes {changed[0]}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
        return Check(
            name=name, status="fail", finding=finding, advice="it must not learn while it teaches: turn that off in it"
        )
    if spread > 0.05:
        finding = f"two forwards of one batch differ by {spread:.2g} of the logits' spread"
        advice = "something random is on in eval mode (dropout called without `training=self.training`?); turn it off"
        return Check(name=name, status="fail", finding=finding, advice=advice)
    return passed(name, "in eval mode; weights and buffers stay as they are; two forwards agree")


def check_separate(shared: Sequence[str]) -> Check:
    """A teacher shares no weights with the student.

    Args:
        shared: The student's names of parameters that are also the teacher's.
    """
    if not shared:
        return passed("separate", "shares no weights with the student")
    return Check(
        name="separate",
        status="fail",
        finding=f"shares {len(shared)} parameters with the student, the first: {shared[0]}",
        advice="it would teach nothing and freeze the student; give copy.deepcopy(model), or another model",
    )


def check_shape(teacher: Sequence[int], student: Sequence[int]) -> Check:
    """A teacher's logits have the student's rows and classes.

    Args:
        teacher: Shape of the teacher's logits for a batch.
        student: Shape of the student's.
    """
    name = "classes"
    if tuple(teacher) == tuple(student):
        return passed(name, f"logits {list(teacher)}, as the student's")
    finding = f"logits {list(teacher)}, the student's {list(student)}"
    if tuple(teacher[:-1]) == tuple(student[:-1]) and teacher[-1] > student[-1]:
        advice = "say which of its classes are the student's: `classes`; for a padded vocabulary: `vocabulary`"
    elif tuple(teacher[:-1]) == tuple(student[:-1]):
        advice = "it does not know all of the student's classes; take a teacher that does"
    else:
        advice = "it gives other rows than the student for one batch; check what the inputs mean to it"
    return Check(name=name, status="fail", finding=finding, advice=advice)


def check_finite(bad: int, rows: int) -> Check:
    """A teacher's logits are finite.

    Args:
        bad: Rows with a NaN or an infinity.
        rows: All rows.
    """
    if not bad:
        return passed("finite", f"finite in all of {rows} rows")
    return Check(
        name="finite",
        status="fail",
        finding=f"NaN or infinite in {bad} of {rows} rows",
        advice="check its weights and input normalisation; if it overflows in half precision, set its dtype to fp32",
    )


def check_labels(agreement: float, chance: float, rows: int, *, renamed: float | None = None) -> Check:
    """A teacher's first choices agree with the labels more than by chance.

    Args:
        agreement: Fraction of labelled rows where its first choice is the label.
        chance: What that would be if choices and labels, as often as each occurs, had nothing to do with each other.
        rows: Number of labelled rows.
        renamed: The agreement if each of its classes were called what it most often goes with, where that can be told.
    """
    name = "labels"
    finding = f"agrees with {agreement:.1%} of the labels, by chance it would be {chance:.1%}"
    error = math.sqrt(max(chance * (1.0 - chance), 1e-12) / rows)
    if agreement <= chance:
        advice = (
            "its classes or tokens are not the student's, or its inputs are wrong: check `classes`, the tokenizer, "
        )
        advice += "`mean` and `std`"
        if renamed is not None and renamed > max(0.5, 2 * agreement):
            finding += f", with its classes renamed {renamed:.1%}"
            advice = "its classes stand in another order: give `classes`, by name or by index"
        return Check(name=name, status="fail", finding=finding, advice=advice)
    if agreement - chance < _CLEAR * error:
        advice = f"{rows} rows do not show that it knows the task; give more batches, or a better teacher"
        return Check(name=name, status="warn", finding=finding, advice=advice)
    return passed(name, finding)


def check_probabilities(found: bool) -> Check:
    """A teacher gives logits, not probabilities.

    Args:
        found: Whether all rows are not negative and sum to 1.
    """
    name = "logits"
    if not found:
        return passed(name, "gives logits")
    return Check(
        name=name,
        status="fail",
        finding="no value is negative and every row sums to 1: these are probabilities, no logits",
        advice="take the softmax off its end, or wrap it: its outputs' log() are logits of the same probabilities",
    )


def check_label_kind(problem: str | None) -> Check | None:
    """Labels are indices of classes, which the doctor can hold answers against; None where they are."""
    if problem is None:
        return None
    advice = "the checks that compare answers with labels are left out; "
    advice += "for scores (regression) distil with head='values' and loss='mse', for several labels head='labels'"
    return Check(name="labels", status="warn", finding=problem, advice=advice)


def check_outputs(classes: int, *, compares_classes: bool) -> Check | None:
    """A student has classes to compare; None where it has."""
    if classes > 1 or not compares_classes:
        return None
    return Check(
        name="outputs",
        status="fail",
        finding="the student has one output, and a softmax over one class is 1 whatever the logit",
        advice="for a number (regression, a reward model) set head='values' and loss='mse'; for a yes-or-no logit "
        "head='labels'",
    )


def check_label_range(lowest: int, highest: int, classes: int) -> Check:
    """Labels are indices of the student's classes (-100, for no label, left out)."""
    if lowest >= 0 and highest < classes:
        return passed("label range", f"labels {lowest} to {highest}, the student has {classes} classes")
    return Check(
        name="label range",
        status="fail",
        finding=f"labels {lowest} to {highest}, but the student has {classes} classes, 0 to {classes - 1}",
        advice="labels must be indices of the student's classes; rows without one are labelled -100",
    )


def check_normalisation(agreement: float, others: Mapping[str, float], error: Mapping[str, float]) -> Check:
    """No other usual normalisation suits a teacher better than the one it is given.

    Judged by agreement: cross-entropy falls for an overconfident teacher whenever its images lose contrast.

    Args:
        agreement: Fraction of labelled rows where its first choice is the label, with images as they are given to it.
        others: The same with images normalised otherwise, by the words for it.
        error: Standard errors of the differences.
    """
    name = "normalisation"
    best = max(others, key=others.__getitem__, default=None)
    if best is None or others[best] - agreement <= _CLEAR * error[best]:
        return passed(name, "no usual normalisation of its images suits it better")
    return Check(
        name=name,
        status="fail" if others[best] - agreement > 0.05 else "warn",
        finding=f"agrees with {agreement:.1%} of the labels as it is, with {others[best]:.1%} given {best}",
        advice="give it the `mean` and `std` that it was trained with; students and teachers may have different ones",
    )


def check_better(gap: float, error: float, teacher: float) -> Check:
    """A teacher is better than the student as it is now.

    Args:
        gap: Mean over labelled rows of the student's cross-entropy minus the teacher's, in nats.
        error: Its standard error.
        teacher: The teacher's cross-entropy.
    """
    name = "better than the student"
    finding = f"cross-entropy {teacher:.3f}, the student's as it is {teacher + gap:.3f}"
    if gap > _CLEAR * error:
        return passed(name, finding)
    if gap > 0:
        return Check(name=name, status="warn", finding=finding, advice="too close to tell; give more batches")
    advice = "it would pull the student back: leave it out, or find out what is wrong with its inputs or classes"
    return Check(name=name, status="fail", finding=finding, advice=advice)


def check_unwritten(student: str) -> Check:
    """A student leaves its inputs as they are; this one does not."""
    return Check(
        name="inputs",
        status="fail",
        finding=f"the student ({student}) changes its inputs in place, so that teachers asked after it see other ones",
        advice="have its forward write into a copy, or call distiller.prefetch(inputs) before it",
    )
