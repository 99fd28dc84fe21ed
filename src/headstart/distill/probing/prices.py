"""What the teachers of a probe are held against, and which of them no answer could save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.distill.heads.head import Head
from headstart.distill.pool.teacher import Teacher
from headstart.distill.probing.record import Probe, teacher_probe
from headstart.distill.probing.verdict import too_dear
from headstart.distill.probing.worth import Worth, reach_of, worth_of
from headstart.distill.targets.source import numbered
from headstart.distill.window import Window

Turn = tuple[Teacher, float | None, float | None]
"""A teacher, and what its forward costs in steps of the student: by FLOPs, and by the clock."""


@dataclass(frozen=True)
class Prices:
    """What teachers are held against: the window, and the student's training.

    Attributes:
        window: When they may be asked.
        step_flops: Of the student's forward and backward; None where they cannot be counted.
        total_steps: Of its training; None where nobody told.
        trained: FLOPs that the training of teachers took, by name, where known.
        noisy: Whether labels are mostly noise; until it is known, the more hopeful.
    """

    window: Window
    step_flops: int | None
    total_steps: int | None
    trained: Mapping[str, float]
    noisy: bool = True

    @property
    def share(self) -> float:
        """The fraction of the training's steps in the window."""
        return Window(self.window.start, self.window.stop).distilled_steps(10_000) / 10_000

    def worth(self, name: str, cost: float | None, time: float | None, knowledge: float = 1.0) -> Worth:
        """Of a teacher; by default of one that knows as much as any.

        Where labels are mostly noise it is asked from the beginning on, and no longer than it is ahead: students that
        were taught on by teachers of their own compute came to these teachers' loss, and hung there.
        """
        known = self.step_flops is not None and self.total_steps is not None
        whole = float(self.step_flops or 0) * (self.total_steps or 0) if known else None
        price = cost if cost is not None else time
        assert price is not None
        reach = reach_of(self.trained.get(name), whole, noisy=self.noisy)
        return worth_of(
            knowledge=knowledge,
            reach=reach,
            cost=price,
            share=self.share,
            every=int(self.window.every),
            until=reach if self.noisy else 1.0,
        )

    def all_hopeless(self, turns: Sequence[Turn]) -> bool:
        """Whether none of so many teachers can be worth its cost, whatever it knows."""
        priced = zip(self._names(turns), turns, strict=True)
        return all(too_dear(self.worth(name, cost, time)) for name, (_, cost, time) in priced)

    def _names(self, turns: Sequence[Turn]) -> list[str]:
        """Those that `trained` may know them by: more teachers may come, and then the first one has a number, too."""
        names = numbered([teacher.name for teacher, *_ in turns])
        return [name if name in self.trained else f"{name} #1" for name in names]

    def unasked(self, turns: Sequence[Turn], head: Head, outputs: int = 0) -> Probe:
        """What there is to say of these then, without a look.

        Args:
            turns: All teachers.
            head: What a row means.
            outputs: How many a row has; 0 where the student was not asked either.
        """
        found = []
        for name, (_, cost, time) in zip(numbered([teacher.name for teacher, *_ in turns]), turns, strict=True):
            worth = self.worth(name, cost, time)
            found.append(teacher_probe(name, worth, dropped=too_dear(worth), cost=cost, time=time))
        return Probe(tuple(found), head, 0, None, None, self.share, outputs, self.step_flops)
