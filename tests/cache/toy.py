"""A task of numbers instead of images, so small that caching it takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstart.cache import Batches, Keep, write_cache
from headstart.distill import Teacher, kl
from headstart.distill.targets.source import Keys, Use
from headstart.tasks import Batch
from headstart.tasks.order import EpochOrder
from headstart.tasks.random import random_below

FEATURES, CLASSES, SIZE = 3, 7, 4
KEEP = [Keep("full"), Keep("top-k", 2), Keep("sampled", 5)]
USE = Use(kl, temperature=2.0, standardize=False, asked=1)
DATA: dict[str, Any] = {"name": "toy", "augment": {"shift": 3}, "seed": 0}


@dataclass
class Toy:
    """Samples whose features follow from (seed, epoch, sample), as augmented images do."""

    samples: int = 18
    seed: int = 0
    order_seed: int = 0
    rows: int = 1  # of logits, for each sample

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """As in `Task`."""
        samples, epoch = EpochOrder(self.samples, seed=self.order_seed).part(step, size, part, parts)
        return Batch(self.inputs(samples, epoch), samples.repeat_interleave(self.rows) % CLASSES, samples, epoch)

    def inputs(self, samples: Tensor, epoch: int) -> Tensor:
        """Features of each row, `[samples * rows, FEATURES]`."""
        streams = torch.arange(self.rows * FEATURES)
        drawn = random_below(1000, samples.view(-1, 1), seed=self.seed, epoch=epoch, stream=streams)
        return (drawn / 500.0 - 1.0).view(-1, FEATURES)


def toy_teacher(name: str = "old", *, seed: int = 0, classes: int = CLASSES, **options: Any) -> Teacher:
    """A small network with random weights."""
    torch.manual_seed(seed)
    return Teacher(nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, classes)), name=name, **options)


def toy_batches(task: Toy | None = None, *, steps: int = 6, parts: int = 1) -> Batches:
    """The first steps of a training on the toy: 4 samples each, 4 steps an epoch."""
    return Batches(task or Toy(), range(steps), SIZE, parts)


def write_toy(
    folder: Path,
    *,
    teacher: Teacher | None = None,
    batches: Batches | None = None,
    data: dict[str, Any] = DATA,
    use: Use = USE,
    keep: Keep = KEEP[0],
) -> Path:
    """Cache the toy's targets; the file."""
    (path,) = write_cache(folder, [teacher or toy_teacher()], batches or toy_batches(), data=data, use=use, keep=keep)
    return path


def ticking_clock() -> Callable[[], float]:
    """Half a second passes between any two looks at it."""
    ticks = count()
    return lambda: 0.5 * next(ticks)


def keys_of(batch: Batch) -> Keys:
    """What the cache looks a batch up by."""
    return Keys(batch.samples, batch.epoch)
