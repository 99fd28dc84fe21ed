"""Why a teacher is of no use, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from headstart.distill.probing.evidence import Evidence, mean_of_heads
from headstart.distill.probing.worth import LEAST, Worth

_SURE = 3.0  # standard errors above chance
_LEAST = 0.02  # of the loss by chance that a teacher has to explain: random features explain a little
_RENAMED = 0.5  # accuracy that renaming classes must give, and twice that before, to show another order
_CONFIDENT = 0.5  # mean probability of its own choice


def why_dropped(
    finite: Sequence[Evidence] | None, bad: int, temperature: float | None, student_loss: float, worth: Worth
) -> str | None:
    """Why a teacher is of no use; None where it is.

    Args:
        finite: What it said to labelled rows, of each head; None where nothing was finite.
        bad: How many of its outputs were not.
        temperature: What calibrates it.
        student_loss: The student's task loss as it is.
        worth: What it may be worth.
    """
    if bad or finite is None:
        return f"{bad} of its outputs are not finite (NaN or infinite); a half-precision overflow? Load it in fp32"
    losses = [head.losses(temperature or 1.0) for head in finite]
    chances = [head.by_chance() for head in finite]
    return (
        _in_another_order(finite)
        or _no_better_than_chance(finite, losses, chances)
        or _passed(mean_of_heads(losses), student_loss)
        or too_dear(worth)
    )


def _in_another_order(finite: Sequence[Evidence]) -> str | None:
    for head in finite:
        best, choices, right = head.renamed(), head.choices(), head.right()
        if best is None or choices is None or right is None:
            continue
        accuracy = float((choices == right).double().mean())
        if best > max(_RENAMED, 2 * accuracy):
            return (
                f"its classes seem to be in another order than the labels: right in {accuracy:.0%} of the rows, and in "
                f"{best:.0%} if each class were called what it most often goes with; give classes= (which of its "
                "classes are the student's)"
            )
    return None


def _no_better_than_chance(
    finite: Sequence[Evidence], losses: Sequence[Tensor], chances: Sequence[Tensor]
) -> str | None:
    gains = [chance - loss for chance, loss in zip(chances, losses, strict=True)]
    gain, chance = mean_of_heads(gains), mean_of_heads(chances)
    error = math.sqrt(sum(float(one.var(correction=0)) / len(one) for one in gains)) / len(gains)
    if gain > max(_SURE * error, _LEAST * chance):
        return None
    told = f"no better than the labels' frequencies alone: loss {chance - gain:.3f} against {chance:.3f}"
    if any(_sure_of_itself(head) for head in finite):
        return f"{told}, though sure of itself: shuffled labels, or inputs that it was not trained on"
    return told


def _sure_of_itself(head: Evidence) -> bool:
    if head.head != "classes" or head.logits.shape[-1] < 2:
        return False
    p = torch.softmax(head.logits.double(), -1).amax(-1)
    return float(p.mean()) > max(_CONFIDENT, 2.0 / head.logits.shape[-1])


def _passed(loss: float, student_loss: float) -> str | None:
    if loss < student_loss:
        return None
    return f"the student is better already: loss {student_loss:.3f}, this teacher's {loss:.3f} at its best temperature"


def too_dear(worth: Worth) -> str | None:
    """Why asking a teacher cannot pay; None where it can."""
    if worth.saving <= worth.break_even:
        return (
            f"asking it costs more than it can be worth: it must save {worth.break_even:.1%} of the steps, and may "
            f"save {worth.saving:.1%}"
        )
    if worth.saving < LEAST:
        return (
            f"it may save {worth.saving:.1%} of the steps at best, and by less than {LEAST:.0%} students have ended up "
            "behind: they pass such a teacher soon, and are held back by it until they have"
        )
    return None
