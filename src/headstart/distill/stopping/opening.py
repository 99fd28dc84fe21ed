"""A window that stays shut until most of what labels say is noise to the student, and teachers are worth asking."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.heads.several import Output
from headstart.distill.later import Later, over_processes
from headstart.distill.losses import widen
from headstart.distill.objective import Objective
from headstart.distill.projection import Projection
from headstart.distill.stopping.batch_sums import as_probabilities, rows_looked_at
from headstart.distill.stopping.judge import block_length
from headstart.distill.window import Window
from headstart.errors import HeadstartError

RECENT = 8  # looks whose mean decides
_WORST = 2.0  # a Brier score: sure, and wrong


@dataclass(frozen=True)
class Opened:
    """A window that has opened by itself.

    Attributes:
        step: The first optimiser step that is distilled, counted from 0.
        total_steps: Optimiser steps of the whole training.
        brier: The student's Brier score, mean over its last looks.
        open_at: What was waited for.

    Example:
        >>> print(Opened(240, 938, 0.297, 0.3))
        distillation began at step 240 of 938 (26 %): the student's Brier score was 0.297, and 0.3 was waited for
    """

    step: int
    total_steps: int
    brier: float
    open_at: float

    def __str__(self) -> str:
        share = f"{100 * self.step / self.total_steps:.0f} %"
        return (
            f"distillation began at step {self.step} of {self.total_steps} ({share}): the student's Brier score was "
            f"{self.brier:.3f}, and {self.open_at:g} was waited for"
        )


class Opening:
    """Decides when a window opens, by the student's Brier score on its training batches, before each update.

    The score of a row is `|s - y|^2`, its probabilities less the label: the squared length of the gradient that the
    label pulls with at the logits. It is taken on the first step of each of the training's 400 blocks (on each step of
    a training of fewer); the window opens once the mean of the last 8 of these is `open_at` or less, which is known
    with the look after them, so that nothing waits for the device. All processes open at the same step.

    Args:
        open_at: In (0, 2]; 2 is above every score.
        objective: What is minimised, for what counts.

    Attributes:
        opened: When it was, once it is.

    Raises:
        HeadstartError: `open_at` is no score.
    """

    def __init__(self, open_at: float, objective: Objective) -> None:
        if not 0.0 < open_at <= _WORST:
            raise HeadstartError(
                f"open_at={open_at} is outside (0, 2]: the student's Brier score, the mean of |probabilities - label|^2"
            )
        if objective.head != "classes":
            raise HeadstartError(
                f"open_at compares probabilities of classes with labels, and head={objective.head!r} has none; leave "
                "it out, or set start"
            )
        self.open_at, self._objective = open_at, objective
        self.opened: Opened | None = None
        self._step: Tensor | None = None  # rows and their scores, of the present step, in this process
        self._pending: Later | None = None  # of the last look, in all processes
        self._recent: deque[list[float]] = deque(maxlen=RECENT)
        self._looked = -1  # the last step that was looked at

    def shut(self, step: int) -> bool:
        """Whether it is not open yet at a step."""
        return self.opened is None or step < self.opened.step

    def looks(self, step: int, total_steps: int) -> bool:
        """Whether a step's batch is looked at."""
        length = block_length(total_steps)  # of today's: a training may be made longer while it goes on
        return self.opened is None and (self._looked < 0 or step // length > self._looked // length)

    def observe(self, outputs: Sequence[Output]) -> None:
        """Take in a batch, one of the step's micro-batches.

        Raises:
            HeadstartError: A head has no labels, or they are no classes.
        """
        for output in outputs:
            if output.labels is None:
                raise HeadstartError(
                    "open_at compares the student with the labels of batches, and there are none: call "
                    "distiller(loss, logits, inputs, labels=labels), or set start instead"
                )
            logits, labels = output.logits.flatten(0, -2), output.labels
            soft = labels.dim() == output.logits.dim()
            if labels.is_floating_point() and not soft:
                raise HeadstartError(
                    f"open_at compares the student with the classes that labels say, and these are {labels.dtype} of "
                    f"shape {tuple(labels.shape)}; give their indices as int64, or set start instead"
                )
            labels = labels.flatten(0, -2) if soft else labels.flatten()
            keep = self._objective.counted(labels)
            index = rows_looked_at(keep, logits.shape[-1])
            if index is not None:
                logits, labels, keep = logits[index], labels[index], keep[index]
            self._take(logits, labels, keep)

    def observe_projected(self, student: Projection, labels: Tensor) -> None:
        """As `observe`, of logits that do not exist: those of the rows that are looked at are made for it."""
        keep = self._objective.counted(labels)
        index = rows_looked_at(keep, len(student.weight))
        index = torch.arange(len(keep), device=keep.device) if index is None else index
        with torch.no_grad():
            logits = student._replace(hidden=student.hidden.detach()).logits(index)
        self._take(logits, labels[index], keep[index])

    def hand_over(self, step: int, following: int, window: Window, total_steps: int) -> None:
        """End a step.

        Args:
            step: It.
            following: The next one; an earlier one begins anew.
            window: Inside which it opens.
            total_steps: Of the whole training.
        """
        if following < step:
            self._forget()
        elif self.looks(step, total_steps):
            self._looked = step
            self._read_and_send()
            self._decide(window.next_step(following, total_steps), total_steps)

    def state_dict(self) -> dict[str, Any]:
        """All that has been seen, in plain numbers."""
        return {
            "opened": None if self.opened is None else asdict(self.opened),
            "recent": [list(look) for look in self._recent],
            "looked": self._looked,
            "pending": None if self._pending is None else self._pending.read(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self._forget()
        self.opened = None if state["opened"] is None else Opened(**state["opened"])
        self._looked = int(state.get("looked", -1))
        self._recent.extend(list(look) for look in state["recent"])
        self._pending = None if state["pending"] is None else Later(torch.tensor(state["pending"]))

    def _take(self, logits: Tensor, labels: Tensor, keep: Tensor) -> None:
        with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
            s = F.softmax(widen(logits.detach()), -1)
            scores = (s - as_probabilities(labels, s)).square().sum(-1)
            counts = torch.stack([torch.ones_like(scores), scores])
            sums = torch.where(keep, counts, 0.0).sum(-1).float()
        self._step = sums if self._step is None else self._step.to(sums.device) + sums

    def _read_and_send(self) -> None:
        """Read the look before this one, which is over for sure, and begin to bring this one to the host."""
        sums, self._step = over_processes(self._step, 2), None
        before, self._pending = self._pending, None if sums is None else Later(sums)
        look = [0.0, 0.0] if before is None else before.read()
        if look[0] and all(map(math.isfinite, look)):
            self._recent.append(look)

    def _decide(self, first: int | None, total_steps: int) -> None:
        """Open, with the first step that can be distilled, if there is one."""
        if first is None or len(self._recent) < RECENT:
            return
        rows, scores = map(sum, zip(*self._recent, strict=True))
        if scores / rows <= self.open_at:
            self.opened = Opened(first, total_steps, scores / rows, self.open_at)

    def _forget(self) -> None:
        self._recent.clear()
        self._looked = -1
        self._pending = self._step = self.opened = None
