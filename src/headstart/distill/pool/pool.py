"""The teachers at hand, and which of them are asked at a step."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from headstart.distill.later import together
from headstart.distill.losses import Average, widen
from headstart.distill.pool.draw import count_drawn, draw
from headstart.distill.pool.residence import Stream
from headstart.distill.pool.sharding import Shards
from headstart.distill.pool.teacher import Teacher
from headstart.distill.targets.source import TargetSource, numbered
from headstart.errors import TeacherError

Residence: TypeAlias = Literal["device", "stream", "sharded"]


class TeacherPool:
    """A pool of teachers; one is drawn per step unless told otherwise.

    One drawn teacher costs O(1) a step and keeps the benefit of the ensemble's O(n) (arXiv 2211.00683, abstract).

    Args:
        teachers: Modules, `Teacher` objects, or other sources of targets such as cached teachers. At least one.
        draw: How many to ask at a step: a number (default 1), drawn without replacement, or `"all"`.
        weights: Relative weights, one per teacher, positive; uniform by default. With one drawn they are the odds of
            the draw, with all the weights of the mean. In between a weighted draw without replacement would not keep
            those odds, so it is refused.
        seed: Seed of the draw.
        per_rank: Draw differently on each process (n ranks see up to n teachers a step) instead of the same on all.
        residence: Where the modules are. `"device"`: all beside the student. `"stream"`: two at most; the others wait
            on the host, and the next one drawn is copied in while the present one works. Each of `teachers` is taken
            in before the next one is asked for, so that a generator needs memory for one at a time. `"sharded"`: each
            in parts over all processes (FSDP2), a layer being gathered when it is its turn; all processes have to ask
            them at the same time. A single process keeps them whole.
        spool: With `"stream"`, a folder for the files in which they wait, for pools that the host's memory does not
            hold either. Default: pinned memory; where there is no CUDA, files in the system's temporary folder.

    Raises:
        TeacherError: The pool is empty, `draw` is not between 1 and its size, the weights do not fit, the seed has more
            than 64 bits, one module is given twice, a teacher cannot be streamed or sharded, or sharded ones would be
            drawn differently.

    Example:
        >>> pool = TeacherPool([nn.Linear(2, 3), nn.Linear(2, 3)], draw="all")
        >>> pool.chosen(step=0)
        (0, 1)
    """

    def __init__(
        self,
        teachers: Iterable[nn.Module | TargetSource],
        *,
        draw: int | Literal["all"] = 1,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        per_rank: bool = False,
        residence: Residence = "device",
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        if residence not in get_args(Residence):
            raise TeacherError(f"residence={residence!r} must be 'device', 'stream' or 'sharded'")
        if spool is not None and residence != "stream":
            raise TeacherError(f"spool={os.fspath(spool)!r}: teachers wait in files with residence='stream' only")
        if per_rank and residence == "sharded":
            raise TeacherError(
                "per_rank=True with residence='sharded': all processes have to ask the same teacher, as each has a "
                "part of it; leave per_rank out, or set residence='device' or 'stream'"
            )
        self._elsewhere: Stream | Shards | None = (
            Stream(spool) if residence == "stream" else Shards() if residence == "sharded" else None
        )
        self.teachers = [self._taken_in(item) for item in teachers]
        size = len(self.teachers)
        if not size:
            raise TeacherError("the pool of teachers is empty; give at least one, or leave the Distiller out")
        if len({id(getattr(teacher, "module", teacher)) for teacher in self.teachers}) < size:
            raise TeacherError("the pool holds one module twice; use weights to draw a teacher more often")
        count = count_drawn(draw, size, weights=weights)
        if not -(2**63) <= seed < 2**63:
            raise TeacherError(f"seed={seed} must be a signed 64-bit number, from -2**63 to 2**63 - 1")
        self.draw = count
        self.weights = list(weights) if weights is not None else [1.0] * size
        self.seed = seed
        self.per_rank = per_rank
        for teacher, name in zip(self.teachers, numbered([teacher.name for teacher in self.teachers]), strict=True):
            teacher.name = name

    def __len__(self) -> int:
        return len(self.teachers)

    @property
    def live(self) -> list[Teacher]:
        """The teachers that run; cached ones do not."""
        return [teacher for teacher in self.teachers if isinstance(teacher, Teacher)]

    @property
    def stays(self) -> bool:
        """Whether the modules stay on the device once they were brought there."""
        return self._elsewhere is None

    def chosen(self, step: int) -> tuple[int, ...]:
        """The indices of the teachers asked at a step; the same for all its micro-batches, and known ahead."""
        rank = torch.distributed.get_rank() if self.per_rank and together() else 0
        return draw(len(self), self.draw, weights=self.weights, seed=self.seed, step=step, rank=rank)

    def asked(self, step: int, device: torch.device, *, following: int) -> Iterator[TargetSource]:
        """The teachers asked at a step, one after the other, each on the device when it comes.

        Args:
            step: The optimiser step.
            device: The student's.
            following: The next step that asks any.
        """
        chosen = self.chosen(step)
        for place, index in enumerate(chosen, start=1):
            then = chosen[place] if place < len(chosen) else self.chosen(following)[0] if self._elsewhere else index
            self.bring(self.teachers[index], device, self.teachers[then])
            yield self.teachers[index]

    def bring(self, teacher: TargetSource, device: torch.device, then: TargetSource | None = None) -> None:
        """Have a teacher on the device.

        Args:
            teacher: One of the pool's.
            device: Where.
            then: The next one to be asked; streamed teachers are copied ahead.
        """
        if self._elsewhere is None or not self._elsewhere.bring(teacher, device, then):
            teacher.to(device)

    def outline(self, teacher: Teacher) -> nn.Module:
        """The module of a teacher, for counting what its forward takes; without values where it is sharded."""
        return self._elsewhere.outline(teacher) if isinstance(self._elsewhere, Shards) else teacher.module

    def _taken_in(self, item: nn.Module | TargetSource) -> TargetSource:
        teacher = item if isinstance(item, TargetSource) else Teacher(item)
        if self._elsewhere is not None and isinstance(teacher, Teacher):
            self._elsewhere.admit(teacher)
        return teacher

    def mean_weights(self, chosen: Sequence[int]) -> list[float]:
        """The weights, summing to 1, with which the chosen teachers are averaged."""
        total = sum(self.weights[index] for index in chosen)
        return [self.weights[index] / total for index in chosen]


def as_pool(teachers: TeacherPool | nn.Module | TargetSource | Iterable[nn.Module | TargetSource]) -> TeacherPool:
    """A pool of whatever was given: a pool, one teacher, or several."""
    return teachers if isinstance(teachers, TeacherPool) else TeacherPool(each_of(teachers))


def each_of(
    teachers: TeacherPool | nn.Module | TargetSource | Iterable[nn.Module | TargetSource],
) -> Iterable[nn.Module | TargetSource]:
    """The teachers one by one of whatever was given: a pool's, the only one, or several."""
    if isinstance(teachers, TeacherPool):
        return teachers.teachers
    if isinstance(teachers, nn.ModuleList) or not isinstance(teachers, (nn.Module, TargetSource)):
        return teachers
    return [teachers]


def average_logits(
    logits: Sequence[Tensor], weights: Sequence[float], *, by: Average, temperature: float = 1.0
) -> Tensor:
    """Several teachers' logits as one teacher's.

    Args:
        logits: One tensor `[rows, classes]` per teacher.
        weights: One per teacher, summing to 1.
        by: `"logit"`: the weighted mean of the logits. `"probability"`: logits whose tempered softmax is the weighted
            mean of the teachers' tempered softmaxes, T * log(sum_i w_i softmax(z_i / T)).
        temperature: T; without effect for `"logit"`.

    Returns:
        `[rows, classes]`, at least float32; a single teacher's logits as they are.

    Example:
        >>> average_logits([torch.zeros(1, 2), torch.ones(1, 2) * 4], [0.75, 0.25], by="logit")
        tensor([[1., 1.]])
    """
    if len(logits) == 1:
        return logits[0]
    # The weights stay numbers: as a tensor they would have to be copied to the device, which waits for it.
    pairs = [(widen(item), weight) for item, weight in zip(logits, weights, strict=True)]
    if by == "logit":
        return torch.stack([weight * item for item, weight in pairs]).sum(0)
    parts = [(item / temperature).log_softmax(-1) + math.log(weight) for item, weight in pairs]
    return temperature * torch.stack(parts).logsumexp(0)
