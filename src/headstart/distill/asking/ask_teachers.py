"""Asking the teachers of a step for the targets of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headstart.distill.asking.part_of_batch import Part, first_part
from headstart.distill.asking.prefetch import Early
from headstart.distill.asking.shared_tokens import share_tokens_with
from headstart.distill.asking.written_inputs import check_unwritten
from headstart.distill.first_look import check_logits, check_same_numbers
from headstart.distill.heads.layout import Layout
from headstart.distill.heads.several import Names, Output
from headstart.distill.inputs import first_tensor
from headstart.distill.nonfinite import NonFiniteFlags
from headstart.distill.pool.pool import TeacherPool
from headstart.distill.pool.shared import OptimizerWatch
from headstart.distill.projection import Logits, Projection, as_logits
from headstart.distill.targets.source import Keys, Target, as_rows
from headstart.distill.targets.sparse import Sparse
from headstart.errors import HeadstartError, TeacherError


class Asked(NamedTuple):
    """What the teachers of a step gave.

    Attributes:
        chosen: Their numbers in the pool.
        dense: Logits `[rows, classes]` of each, or what they can be made of; empty where the target is sparse.
        sparse: The only one's sparse form, if it is one.
        keep: What counts: labelled, and finite in all of them, as far as their logits were there to be looked at.
            `[rows]` of bool, or one for all; where each output has a value of its own, `[rows, outputs]`.
        shares: Their weights in the mean, summing to 1.
        names: Theirs.
        part: The samples that the rows are of; None: all of the batch.
    """

    chosen: tuple[int, ...]
    dense: list[Logits]
    sparse: Sparse | None
    keep: Tensor
    shares: list[float]
    names: tuple[str, ...]
    part: Part | None

    @property
    def logits(self) -> list[Tensor]:
        """The logits of each in full."""
        return [as_logits(one) for one in self.dense]

    def distilled(
        self, logits: Tensor, labels: Tensor | None, num_items: float | Tensor | None
    ) -> tuple[Tensor, Tensor | None, float | Tensor | None]:
        """What of the student's batch goes with them.

        Args:
            logits: The student's, `[..., classes]`.
            labels: `[...]`, or `[..., classes]`.
            num_items: Rows of the whole optimiser step.

        Returns:
            Logits `[rows, classes]` and labels `[rows]` (or `[rows, classes]`) of the part, and its share of the items.
        """
        labels = None if labels is None else _rows_of_labels(self.part, labels, logits)
        if self.part is not None:
            logits = self.part.of_rows(logits)
            num_items = None if num_items is None else num_items * (self.part.first / self.part.samples)
        return logits.flatten(0, -2), labels, num_items


class Asking:
    """Asks the teachers that are drawn at a step, now or ahead of the call that wants to know.

    Args:
        pool: The teachers.
        fraction: Of each batch's samples that they are shown, the first ones.
        flags: Raised for non-finite outputs.
        every: Steps from one that asks to the next.
        layout: How outputs lie.
    """

    def __init__(self, pool: TeacherPool, fraction: float, flags: NonFiniteFlags, every: int, layout: Layout) -> None:
        self.pool = pool
        self._fraction, self._flags, self._every, self._layout = fraction, flags, every, layout
        self._early = Early()
        self._watch = OptimizerWatch(pool.live)
        self._heads: Names | None = None  # the student's, from the first call on
        self._looked_at: set[int | str] = set()  # teachers, and the student

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this process and its loop: a copy, also in another process, begins that anew."""
        return {name: value for name, value in vars(self).items() if name not in ("_early", "_watch")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._early, self._watch = Early(), OptimizerWatch(self.pool.live)

    def start(self, step: int, inputs: Any, keys: Keys | None) -> None:
        """Have the teachers work on a batch already; nothing happens where no tensor tells the device."""
        first = first_tensor(inputs)
        if first is None:
            return
        try:
            self._early.start(
                inputs, first.device, lambda: self._targets(step, first.device, self._heads or (), inputs, keys)
            )
        except TeacherError:
            if self._heads is not None:
                raise
            self._early.drop()  # it may be asked for one head where there are several; the call that comes will tell

    def drop(self) -> None:
        """Forget what was started, as a step is over."""
        self._early.drop()
        self._watch.end()

    def share_tokens(self, own: int) -> int:
        """See `share_tokens_with`; what was started is forgotten where it is of other tokens."""
        if not self._layout.may_be_tokens:
            return own
        before = [teacher.classes for teacher in self.pool.live]
        shared = share_tokens_with(self.pool, own)
        if [teacher.classes for teacher in self.pool.live] != before:
            self._early.drop()
        return shared

    def ask(
        self,
        step: int,
        heads: Names,
        outputs: Sequence[Output],
        inputs: Any,
        keys: Keys | None,
        *,
        projected: bool = False,
    ) -> list[Asked]:
        """The targets of a batch, for each head: those started for the same inputs, if any were.

        Args:
            step: The optimiser step.
            heads: The names of the student's.
            outputs: What each gave, logits `[..., classes]`, which the teachers' have to fit. It does not matter what
                they give for what is labelled -100.
            inputs: As in `TargetSource.targets`.
            keys: As there.
            projected: Whether teachers may leave their logits to be made by the loss; it then says of which rows they
                were finite (`mark`).

        Raises:
            TeacherError: They do not fit, or are probabilities.
            HeadstartError: Others were started, the part of the batch makes no sense, or the logits have no gradient.
        """
        for output in outputs:
            _check_gradient(output.logits)
        self._watch.start()
        part = first_part(self._fraction, inputs, keys)
        if heads != (self._heads or ()):
            self._early.drop()
        self._heads = heads
        targets = self._early.take(inputs)
        if not projected:  # then there are no logits to look at
            self._look_at_student(outputs, inputs if targets is None else None)
        if targets is None:
            targets = self._targets(step, outputs[0].logits.device, heads, inputs, keys)
        chosen = self.pool.chosen(step)
        return [
            self._of_head(chosen, output, of_head, part, projected)
            for output, of_head in zip(outputs, zip(*targets, strict=True), strict=True)
        ]

    def mark(self, asked: Asked, finite: Tensor) -> None:
        """Note which rows of each teacher were found finite when its logits were made, `[teachers, rows]` of bool."""
        for index, rows in zip(asked.chosen, finite, strict=True):
            self._flags.mark(index, rows | ~asked.keep)

    def _of_head(
        self, chosen: tuple[int, ...], output: Output, targets: Sequence[Target], part: Part | None, projected: bool
    ) -> Asked:
        """One head's targets of all teachers chosen."""
        logits, labels = output
        shown = logits if part is None else part.of_rows(logits)
        counted = None if labels is None else self._layout.objective.counted(_rows_of_labels(part, labels, logits))
        all_of_it = torch.ones((), dtype=torch.bool, device=logits.device)
        names = tuple(self.pool.teachers[index].name for index in chosen)
        dense: list[Logits] = []
        sparse: Sparse | None = None
        keep = all_of_it if counted is None else counted
        for index, name, given in zip(chosen, names, targets, strict=True):
            given = as_logits(given) if isinstance(given, Projection) and not projected else given
            target = as_rows(name, self._layout.rows_last(given) if isinstance(given, Tensor) else given, shown)
            if isinstance(target, Projection):
                dense.append(target)
                continue
            if not isinstance(target, Tensor):  # then it is the only one, and finite: both were seen to before
                sparse = target
                if self.pool.per_rank:  # others may have drawn one whose flag all processes have to agree on
                    self._flags.mark(index, all_of_it)
                continue
            finite = self._layout.objective.finite(target)
            self._flags.mark(index, finite if counted is None else finite | ~counted)
            self._look_at(index, name, shown, target, finite if counted is None else finite & counted)
            dense.append(target)
            keep = keep & finite
        return Asked(chosen, dense, sparse, keep, self.pool.mean_weights(chosen), names, part)

    def _look_at(self, index: int, name: str, student: Tensor, target: Tensor, keep: Tensor) -> None:
        if index in self._looked_at:
            return
        whose, objective = f"teacher {name!r}", self._layout.objective
        settled = check_logits(whose, target, keep, objective)
        if check_same_numbers(whose, student.flatten(0, -2), target, keep, objective) and settled:
            self._looked_at.add(index)

    def _look_at_student(self, outputs: Sequence[Output], inputs: Any) -> None:
        """Once; the inputs are None where the teachers saw them before the student did."""
        if "inputs" not in self._looked_at and inputs is not None:
            self._looked_at.add("inputs")
            check_unwritten(inputs, outputs[0].logits, [teacher.module for teacher in self.pool.live])
        if "student" not in self._looked_at:
            objective, settled = self._layout.objective, True
            for logits, labels in outputs:
                keep = (
                    logits.new_ones((), dtype=torch.bool)
                    if labels is None
                    else objective.counted(_rows_of_labels(None, labels, logits))
                )
                settled &= check_logits("the student", logits.detach().flatten(0, -2), keep, objective)
            if settled:
                self._looked_at.add("student")

    def _targets(
        self, step: int, device: torch.device, heads: Names, inputs: Any, keys: Keys | None
    ) -> list[list[Target]]:
        """Of each teacher, the targets of each head."""
        part = first_part(self._fraction, inputs, keys)
        if part is not None:
            inputs, keys = part.of_inputs(inputs), keys if keys is None else part.of_keys(keys)
        targets: list[list[Target]] = []
        for source in self.pool.asked(step, device, following=step + self._every):
            given: list[Target] = []
            given += source.several(inputs, keys, heads) if heads else [source.targets(inputs, keys)]
            if not self.pool.stays:  # what they are made of is another teacher's by the time of the loss
                given = [as_logits(one) if isinstance(one, Projection) else one for one in given]
            targets.append(given)
        return targets


def _rows_of_labels(part: Part | None, labels: Tensor, logits: Tensor) -> Tensor:
    """The labels of the part's rows, `[rows]`, or `[rows, classes]` where they have the logits' shape."""
    each_output = labels.dim() == logits.dim()
    labels = labels if part is None else part.of_rows(labels)
    return labels.flatten(0, -2) if each_output else labels.flatten()


def _check_gradient(logits: Tensor) -> None:
    """Refuse a student that cannot learn: in a plain loop nothing else tells that it is its own teacher, and frozen."""
    if not logits.requires_grad:
        raise HeadstartError(
            "the student's logits have no gradient, so it would learn nothing: all that they are made of is frozen or "
            "detached. A teacher that is the student itself freezes it: load it once more, or make the teacher of "
            "copy.deepcopy(model)"
        )
