"""Small images of one size, all of them on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from headstart.tasks.images.config import ImageData
from headstart.tasks.images.data.feed import Drawn, check_classes, split_off
from headstart.tasks.images.data.image_set import ImageSet, load_images
from headstart.tasks.order import EpochOrder, held_out_batches


class ImagesInMemory:
    """A feed from the device's memory.

    Args:
        data: The images.
        seed: Of their order.
        device: Where they are kept.

    Raises:
        DataError: They cannot be had, or leave nothing to train on or to judge by.
    """

    def __init__(self, data: ImageData, *, seed: int, device: torch.device | str) -> None:
        train = load_images(data.name, "train")
        kept, held_out = split_off(len(train.labels), data)
        images, labels = _test_images(data, train, held_out)
        pixels = train.images[kept]
        self.classes = train.classes
        self.samples = len(kept)
        self.shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self.mean, self.std = _channel_statistics(pixels)
        self._images, self._labels = pixels.to(device), train.labels[kept].to(device)
        self._test_images, self._test_labels = images.to(device), labels.to(device)
        self._order = EpochOrder(self.samples, seed=seed)

    def training(self, step: int, size: int, *, part: int, parts: int) -> Drawn:
        """A part of a step's images."""
        samples, epoch = self._order.part(step, size, part, parts)
        there = samples.to(self._labels.device, non_blocking=True)
        return Drawn(self._images[there], self._labels[there], samples, epoch)

    def stored(self, samples: Tensor) -> Drawn:
        """Images of these numbers, as they are."""
        there = samples.to(self._labels.device)
        return Drawn(self._images[there], self._labels[there], samples, 0)

    def held_out(self, size: int, *, part: int, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The held-out images, all of them or one of several parts."""
        for samples, count in held_out_batches(len(self._test_labels), size, part=part, parts=parts):
            there = samples.to(self._test_labels.device)
            yield self._test_images[there], self._test_labels[there][:count]


def _test_images(data: ImageData, train: ImageSet, held_out: Tensor) -> tuple[Tensor, Tensor]:
    if data.evaluate != "test":
        return train.images[held_out], train.labels[held_out]
    test = load_images(data.name, "test")
    check_classes(test.classes, train.classes, data.name)
    return test.images, test.labels


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, as fractions of 255, from exact counts of pixel values."""
    values = torch.arange(256, dtype=torch.float64) / 255.0
    counts = [torch.bincount(images[:, channel].flatten().int(), minlength=256) for channel in range(images.shape[1])]
    shares = torch.stack(counts).double() / counts[0].sum()
    mean = shares @ values
    std = (shares @ values.square() - mean.square()).sqrt().clamp(min=1e-3)
    return mean.float(), std.float()
