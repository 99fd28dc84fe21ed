"""Images of any size, which workers read, decode and cut to one size as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headstart.tasks.images.config import ImageData
from headstart.tasks.images.data.decode import Encoded
from headstart.tasks.images.data.decode_ahead import DecodeAhead, Decoder, Key, decode_all
from headstart.tasks.images.data.feed import Drawn, check_classes, split_off
from headstart.tasks.images.data.find import find
from headstart.tasks.images.data.image_set import check_labels
from headstart.tasks.images.data.transforms import evaluation_transform, training_transform
from headstart.tasks.order import EpochOrder, held_out_batches

# Of ImageNet, and what models of timm and torchvision are mostly trained with: known without reading all images.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LARGEST_BATCH = 128  # of held-out images; they are larger here than those that are kept in memory


class StreamedImages:
    """A feed from the disk.

    Args:
        data: The images, with the `size` to cut them to.
        seed: Of their order, and of where they are cut.
        device: Where batches go.

    Raises:
        DataError: They cannot be had, or leave nothing to train on or to judge by.
        HeadstartError: torchvision is not installed.
    """

    def __init__(self, data: ImageData, *, seed: int, device: torch.device | str) -> None:
        assert data.size is not None
        train = _opened(data.name, "train")
        kept, held_out = split_off(len(train.labels), data)
        side = data.evaluate_size or data.size
        self.classes = train.classes
        self.samples = len(kept)
        self.shape = (3, side, side)
        self.mean, self.std = torch.tensor(_MEAN), torch.tensor(_STD)
        self._device = torch.device(device)
        self._workers = _workers(data.workers)
        self._labels = train.labels[kept]
        self._order = EpochOrder(self.samples, seed=seed)
        decoder = Decoder(train.images, train.origin, training_transform(data.size, flip=data.augment.flip), seed=seed)
        pinned = self._device.type == "cuda"
        self._ahead = DecodeAhead(decoder, _Keys(kept, seed), workers=self._workers, pinned=pinned)
        test, self._test_rows = (train, held_out) if data.evaluate != "test" else _test(data.name, train)
        self._test_labels = test.labels[self._test_rows]
        self._test_decoder = Decoder(test.images, test.origin, evaluation_transform(side), seed=seed)

    def training(self, step: int, size: int, *, part: int, parts: int) -> Drawn:
        """A part of a step's images."""
        samples, epoch = self._order.part(step, size, part, parts)
        chunks = self._ahead(step, size, part, parts)
        there = [chunk.to(self._device, non_blocking=True) for chunk in chunks]
        images = torch.cat(there) if len(there) > 1 else there[0]
        return Drawn(images, self._labels[samples].to(self._device, non_blocking=True), samples, epoch)

    def held_out(self, size: int, *, part: int, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The held-out images, all of them or one of several parts."""
        size = min(size, _LARGEST_BATCH)
        batches = list(held_out_batches(len(self._test_labels), size, part=part, parts=parts))
        keys = [[(row, 0, 0) for row in self._test_rows[samples].tolist()] for samples, _ in batches]
        decoded = decode_all(self._test_decoder, keys, workers=self._workers)
        for (samples, count), images in zip(batches, decoded, strict=True):
            yield images.to(self._device), self._test_labels[samples][:count].to(self._device)


class _Keys:
    """Which images a part of a step is made of.

    With an order of its own: it looks ahead into the next epoch, and an order remembers one.
    """

    def __init__(self, rows: Tensor, seed: int) -> None:
        self._rows, self._order = rows, EpochOrder(len(rows), seed=seed)

    def __call__(self, step: int, *, size: int, part: int, parts: int) -> list[Key]:
        samples, epoch = self._order.part(step, size, part, parts)
        rows = self._rows[samples].tolist()
        return [(row, sample, epoch) for row, sample in zip(rows, samples.tolist(), strict=True)]


@dataclass(frozen=True, eq=False)
class _Split:
    images: Sequence[Encoded]
    labels: Tensor
    classes: tuple[str, ...]
    origin: str


def _opened(name: str, split: str, unlabelled: str | None = None) -> _Split:
    """Open a split, or the one that stands in for it where it has no labels."""
    found = find(name, split)
    rows = found.open()
    if unlabelled is not None and all(label < 0 for label in rows.labels):
        return _opened(name, unlabelled)
    return _Split(rows.images, check_labels(rows.labels, rows.classes, found.origin), rows.classes, found.origin)


def _test(name: str, train: _Split) -> tuple[_Split, Tensor]:
    """The test split, and which of its images count: all. ImageNet's on the Hub has no labels."""
    test = _opened(name, "test", unlabelled="validation")
    check_classes(test.classes, train.classes, name)
    return test, torch.arange(len(test.labels))


def _workers(wanted: int | None) -> int:
    """As many as wanted, or this process's share of the cores."""
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
