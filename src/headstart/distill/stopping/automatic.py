"""An automatic stop: measures each distilled step, agrees over processes, decides after each block of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from headstart.distill.asking.ask_teachers import Asked
from headstart.distill.heads.several import Output
from headstart.distill.later import Later, over_processes
from headstart.distill.nonfinite import finite_rows
from headstart.distill.objective import Objective
from headstart.distill.pool.pool import average_logits
from headstart.distill.projection import Projection
from headstart.distill.stopping.batch_sums import SUMS, batch_sums, rows_looked_at
from headstart.distill.stopping.judge import Block, Judge, block_length
from headstart.distill.stopping.stopped import Reason, Stopped
from headstart.distill.targets.source import TargetSource
from headstart.distill.window import Window
from headstart.errors import HeadstartError

CAP = 0.5  # fraction of training at which a window closes at the latest, unless told: where a fixed one does
WARMUP = 0.1  # fraction of training in which the learning rate is taken to rise, unless told
RAMP = 0.01  # fraction of training over which the weight falls, at least
_INSTEAD = "set a fixed stop, such as stop=0.5"


class AutomaticStop:
    """Decides when a window closes before its cap.

    Nothing of it waits for the device: the sums of a block are read when the next one is over. What it decides follows
    from sums that all processes have agreed on, at each step that the window has open, whatever each had to distil.

    Args:
        warmup: Fraction of training in which the learning rate rises, and nothing is decided.
        ramp: Fraction of training over which the weight falls once it is.
        objective: What is minimised.

    Attributes:
        stopped: When and why it was, once it is.
    """

    def __init__(self, *, warmup: float, ramp: float, objective: Objective) -> None:
        self._warmup, self._ramp, self._objective = warmup, ramp, objective
        self.stopped: Stopped | None = None
        self._judge = Judge()
        self._step: Tensor | None = None  # sums of the present step, in this process
        self._block: Tensor | None = None  # of the steps before it in the block, in all processes
        self._pending: tuple[Later, bool] | None = None  # of the block before, and whether it may decide

    def check_labels(self, outputs: Sequence[Output]) -> None:
        """Refuse a batch that cannot be judged.

        Raises:
            HeadstartError: A head has no labels.
        """
        if self.stopped is None and any(output.labels is None for output in outputs):
            raise HeadstartError(
                "stop='auto' compares student and teachers by the labels of each batch, and there are none: call "
                f"distiller(loss, logits, inputs, labels=labels), or {_INSTEAD}"
            )

    def observe(self, asked: Sequence[Asked], outputs: Sequence[Output]) -> None:
        """Take in a batch, one of the step's micro-batches, before the update.

        Args:
            asked: What the teachers gave for each head.
            outputs: The student's, with labels.
        """
        if self.stopped is not None:
            return
        for of_head, output in zip(asked, outputs, strict=True):
            rows, labels, _ = of_head.distilled(output.logits, output.labels, None)
            assert labels is not None
            self._take(rows, of_head.logits, of_head.shares, labels, of_head.keep)

    def observe_projected(self, asked: Asked, student: Projection, labels: Tensor) -> None:
        """As `observe`, of logits that do not exist: those of the rows that are looked at are made for it.

        Args:
            asked: What the teachers gave.
            student: What its logits can be made of.
            labels: `[rows]` of int64.
        """
        if self.stopped is not None:
            return
        hidden, classes, _ = asked.distilled(student.hidden, labels, None)
        assert classes is not None
        rows, keep = student._replace(hidden=hidden.detach()), asked.keep.expand(len(hidden))
        index = rows_looked_at(keep, len(student.weight))
        index = torch.arange(len(hidden), device=hidden.device) if index is None else index
        with torch.no_grad():
            own, *teachers = (
                one.logits(index) if isinstance(one, Projection) else one[index] for one in (rows, *asked.dense)
            )
            sound = torch.stack([finite_rows(one) for one in teachers]).all(0)
        self._take(own, teachers, asked.shares, classes[index], keep[index] & sound)

    def _take(
        self, student: Tensor, teachers: Sequence[Tensor], shares: Sequence[float], labels: Tensor, keep: Tensor
    ) -> None:
        teacher = average_logits(teachers, shares, by=self._objective.average)
        sums = batch_sums(student, teacher, labels, keep).float()
        self._step = sums if self._step is None else self._step + sums

    def hand_over(self, step: int, following: int, window: Window, total_steps: int, *, distilled: bool) -> None:
        """End a step.

        Args:
            step: It.
            following: The next one; an earlier one begins anew.
            window: In which `stop` is the cap.
            total_steps: Of the whole training.
            distilled: Whether the window has the step, which is the same for all processes.
        """
        if self.stopped is not None:
            return
        self._agree(distilled)
        if following < step:
            self._forget()
        elif window.closed(following, total_steps):
            end = window.end_step(total_steps)
            self._stop(end, end, total_steps, "cap")
        else:
            length = block_length(total_steps)
            if following // length > step // length:
                self._end_block(following, length, window.end_step(total_steps), total_steps)

    def scale(self, step: int) -> float:
        """The factor on the weight at a step: 1, then down a ramp to 0."""
        if self.stopped is None or step < self.stopped.step:
            return 1.0
        # The middle of a step stands for it, as in a window.
        return max(0.0, 1.0 - (step - self.stopped.step + 0.5) / max(1, self.stopped.end - self.stopped.step))

    def closed(self, step: int) -> bool:
        """Whether no step from this one on is distilled."""
        return self.stopped is not None and step >= self.stopped.end

    def state_dict(self) -> dict[str, Any]:
        """All that has been seen, in plain numbers; reads the open block from the device."""
        pending = None if self._pending is None else [self._pending[0].read(), self._pending[1]]
        return {
            "stopped": None if self.stopped is None else self.stopped.state_dict(),
            "block": None if self._block is None else self._block.tolist(),
            "pending": pending,
            "judge": self._judge.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self._forget()
        self.stopped = None if state["stopped"] is None else Stopped(**state["stopped"])
        self._block = None if state["block"] is None else torch.tensor(state["block"])
        if state["pending"] is not None:
            sums, counts = state["pending"]
            self._pending = Later(torch.tensor(sums)), bool(counts)
        self._judge.load_state_dict(state["judge"])

    def _forget(self) -> None:
        self._judge = Judge()
        self._step = None
        self._block = None
        self._pending = None

    def _agree(self, distilled: bool) -> None:
        sums, self._step = self._step, None
        if distilled:
            sums = over_processes(sums, SUMS)
        if sums is not None:
            self._block = sums if self._block is None else self._block.to(sums.device) + sums

    def _end_block(self, following: int, length: int, latest: int, total_steps: int) -> None:
        if self._pending is not None:
            sums, counts = self._pending
            block = Block.of_sums(sums.read())
            reason = None if block is None else self._judge.add(block, counts=counts)
            if reason is not None:
                ramp = max(1, round(self._ramp * total_steps))
                self._stop(following, min(following + ramp, latest), total_steps, reason)
        after_warmup = following - length >= self._warmup * total_steps
        self._pending = None if self._block is None else (Later(self._block), after_warmup)
        self._block = None

    def _stop(self, step: int, end: int, total_steps: int, reason: Reason) -> None:
        self.stopped = Stopped(step, end, total_steps, reason, *(self._judge.recent or ()))


def automatic_stop(
    stop: float | str,
    *,
    cap: float | None,
    warmup: float,
    ramp_down: float,
    objective: Objective,
    sources: Sequence[TargetSource],
) -> AutomaticStop | None:
    """The automatic stop that a user's words ask for; None where the stop is fixed.

    Args:
        stop: As in `Distiller`, as are the others.
        cap: As there.
        warmup: As there.
        ramp_down: As there.
        objective: What is minimised.
        sources: The teachers.

    Raises:
        HeadstartError: Words that mean nothing, or an output, a loss or targets of which nothing can be told.
    """
    if not isinstance(stop, str):
        if cap is not None:
            raise HeadstartError(f"cap={cap} goes with stop='auto'; with a fixed stop={stop} leave it out")
        return None
    if stop != "auto":
        raise HeadstartError(f"stop={stop!r} is neither a fraction of training nor 'auto'")
    if not 0.0 <= warmup < 1.0:
        raise HeadstartError(f"warmup={warmup} is outside [0, 1): the fraction of training that the rate rises in")
    if objective.head != "classes":
        raise HeadstartError(
            f"stop='auto' compares probabilities of classes, and head={objective.head!r} has none; {_INSTEAD}"
        )
    sparse = [source.name for source in sources if source.sparse]
    if sparse:
        raise HeadstartError(
            f"{sparse[0]}: stop='auto' needs all of a teacher's logits, and these targets hold a part of them; cache "
            f"full targets, or {_INSTEAD}"
        )
    return AutomaticStop(warmup=warmup, ramp=max(ramp_down, RAMP), objective=objective)


def latest_stop(stop: float | str, cap: float | None) -> float:
    """Where a window ends at the latest, as a fraction of training.

    Example:
        >>> latest_stop(0.3, None), latest_stop("auto", None)
        (0.3, 0.5)
    """
    if not isinstance(stop, str):
        return stop
    return CAP if cap is None else cap
