"""Where the images of a task come from: memory, or workers that decode them as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from headstart.errors import DataError
from headstart.tasks.images.config import ImageData

_HOLDOUT_SEED = 20221101  # the held-out images are the same for every run, whatever its seed


@dataclass(frozen=True)
class Drawn:
    """The images of a micro-batch, as they are before the augmentation that batches get on the device.

    Attributes:
        images: uint8 `[batch, channels, height, width]`, on the device.
        labels: int64 `[batch]`, on the device.
        samples: Their indices among the training images, int64 `[batch]`, on the CPU.
        epoch: Counted from 0.
    """

    images: Tensor
    labels: Tensor
    samples: Tensor
    epoch: int


class Feed(Protocol):
    """Training and held-out images.

    Attributes:
        classes: Names.
        samples: Number of training images.
        shape: Channels, height and width of the held-out images.
        mean: Of the training images, per channel, as fractions of 255.
        std: As `mean`.
    """

    classes: tuple[str, ...]
    samples: int
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor

    def training(self, step: int, size: int, *, part: int, parts: int) -> Drawn:
        """As `Task.batch`."""
        ...  # pragma: no cover

    def held_out(self, size: int, *, part: int, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As `held_out_batches`: images, and the labels of those from the first on that count; on the device."""
        ...  # pragma: no cover


def split_off(count: int, data: ImageData) -> tuple[Tensor, Tensor]:
    """Which of the training images to train on, and which of those set aside to judge by; both in their order.

    Raises:
        DataError: There are none to train on, or none to judge by.
    """
    aside = data.holdout + data.tuning
    if aside >= count:
        told = f"data.holdout={data.holdout}" + (f" and data.tuning={data.tuning}" if data.tuning else "")
        verb = "leave" if data.tuning else "leaves"
        raise DataError(f"{told} {verb} none of the {count} images of {data.name} to train on")
    for evaluate, key in (("validation", "holdout"), ("tuning", "tuning")):
        if data.evaluate == evaluate and not getattr(data, key):
            raise DataError(
                f"data.evaluate={evaluate} needs data.{key} above 0: the number of training images to set aside"
            )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HOLDOUT_SEED))
    judged = order[data.holdout : aside] if data.evaluate == "tuning" else order[: data.holdout]
    return order[aside:].sort().values, judged.sort().values


def check_classes(test: tuple[str, ...], train: tuple[str, ...], name: str) -> None:
    """Make sure that labels mean the same in both splits.

    Raises:
        DataError: They do not.
    """
    if test != train:
        raise DataError(f"{name}: the test split has other classes than the training split")
