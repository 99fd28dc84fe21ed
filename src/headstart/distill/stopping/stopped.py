"""When and why an automatic stop has closed the window."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Reason: TypeAlias = Literal["passed", "disagreement", "cap"]

_WHY: dict[Reason, str] = {
    "passed": "the student has passed its teachers",
    "disagreement": "the teachers no longer point where the labels do",
    "cap": "the cap was reached, and neither rule was sure before",
}


@dataclass(frozen=True)
class Stopped:
    """An automatic stop that has come.

    Attributes:
        step: The optimiser step at which it was decided, counted from 0; the weight falls from there on.
        end: The step after the last that may be distilled.
        total_steps: Optimiser steps of the whole training.
        reason: `passed`: the student's task loss is below the teachers', on the same rows. `disagreement`: the cosine
            between the gradients of both losses has sunk. `cap`: the latest step that was allowed.
        student_loss: The student's task loss at the end, a weighted mean of the last measurements; None where there
            were none.
        teacher_loss: That of the teachers, on the same rows.
        cosine: Between the gradients.

    Example:
        >>> print(Stopped(240, 249, 938, "passed", 0.412, 0.433, 0.31))
        distillation stopped at step 240 of 938 (26 %): the student has passed its teachers (task loss 0.412 against
        0.433 on the same rows, cosine of the gradients 0.31)
    """

    step: int
    end: int
    total_steps: int
    reason: Reason
    student_loss: float | None = None
    teacher_loss: float | None = None
    cosine: float | None = None

    def __str__(self) -> str:
        share = f"{100 * self.step / self.total_steps:.0f} %"
        told = f"distillation stopped at step {self.step} of {self.total_steps} ({share}): {_WHY[self.reason]}"
        if self.student_loss is None or self.teacher_loss is None or self.cosine is None:
            return told
        losses = f"task loss {self.student_loss:.3f} against {self.teacher_loss:.3f} on the same rows"
        return f"{told} ({losses}, cosine of the gradients {self.cosine:.2f})"

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and words, of which `Stopped(**state)` makes it again."""
        return asdict(self)
