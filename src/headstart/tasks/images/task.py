"""Image classification: images in memory, augmented in batches on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.errors import DataError
from headstart.tasks.images.augment import augment
from headstart.tasks.images.config import ImageData, ImageModel
from headstart.tasks.images.data import ImageSet, load_images
from headstart.tasks.images.models import build_model
from headstart.tasks.order import EpochOrder, held_out_batches
from headstart.tasks.task import Batch, Evaluation

_HOLDOUT_SEED = 20221101  # the held-out images are the same for every run, whatever its seed


class ImageClassification:
    """Small images, held on the device as uint8; a batch is a pure function of (seed, step).

    Args:
        model: The student.
        data: The images.
        seed: Seed of the order and the augmentation.
        label_smoothing: Of the task loss.
        device: Where images are kept and batches are made.

    Raises:
        DataError: The images cannot be had, or leave nothing to train on or to judge by.
    """

    metric = "accuracy"
    higher_is_better = True

    def __init__(
        self,
        model: ImageModel,
        data: ImageData,
        *,
        seed: int = 0,
        label_smoothing: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.data, self.seed, self.label_smoothing = model, data, seed, label_smoothing
        train = load_images(data.name, "train")
        kept, held_out = _split(len(train.labels), data.holdout)
        if not len(kept):
            raise DataError(
                f"data.holdout={data.holdout} leaves none of the {len(train.labels)} images of {data.name} to train on"
            )
        test = _test_images(data, train, held_out)
        self.classes, self.num_classes = train.classes, len(train.classes)
        pixels = train.images[kept]
        self.mean, self.std = _channel_statistics(pixels)
        self._images, self._labels = pixels.to(device), train.labels[kept].to(device)
        self._test_images, self._test_labels = test[0].to(device), test[1].to(device)
        self._scale = (1.0 / (255.0 * self.std)).view(1, -1, 1, 1).to(device)
        self._shift = (-self.mean / self.std).view(1, -1, 1, 1).to(device)
        self.samples = len(self._labels)
        self._order = EpochOrder(self.samples, seed=seed)

    def build_model(self) -> nn.Module:
        """A new student, in channels_last, which is what convolutions are fastest in."""
        model = build_model(self.model, classes=len(self.classes), channels=self._images.shape[1])
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def describe(self) -> dict[str, Any]:
        """Model, classes and normalisation: what turns weights into a teacher."""
        return {
            "task": "image-classification",
            "model": self.model.model_dump(),
            "classes": list(self.classes),
            "channels": self._images.shape[1],
            "size": list(self._images.shape[-2:]),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """A step's images, shuffled by epoch, augmented, normalised; a last batch that would not be full is left out.

        Args:
            step: The optimiser step, counted from 0.
            size: Images of the whole step.
            part: Which part of them (a micro-batch of a process).
            parts: How many equal parts there are.

        Returns:
            Inputs `[size / parts, channels, height, width]` of float32 in channels_last, and labels `[size / parts]` of
            int64.
        """
        samples, epoch = self._order.part(step, size, part, parts)
        there = samples.to(self._labels.device, non_blocking=True)
        pixels = augment(self._images[there], there, self.data.augment, seed=self.seed, epoch=epoch)
        return Batch(self._normalised(pixels), self._labels[there], samples, epoch)

    def forward(self, model: nn.Module, inputs: Any) -> Tensor:
        """The model's logits, `[images, classes]`."""
        logits: Tensor = model(inputs)
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, mean over the batch."""
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def evaluate(
        self, forward: Callable[[Any], Tensor], *, part: int = 0, parts: int = 1, size: int = 500
    ) -> Evaluation:
        """Accuracy and cross-entropy on the held-out images, all of them or one of several parts."""
        right, loss, rows = 0, 0.0, 0
        for samples, count in held_out_batches(len(self._test_labels), size, part=part, parts=parts):
            there = samples.to(self._test_labels.device)
            labels = self._test_labels[there][:count]
            logits = forward(self._normalised(self._test_images[there])).float()[:count]
            right += int((logits.argmax(-1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            rows += count
        return Evaluation(right / max(rows, 1), {"held_out_loss": loss / max(rows, 1)}, rows)

    def save_beside(self, folder: Path) -> None:
        """Nothing: the weights' description is all that is needed."""

    def _normalised(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self._shift, pixels.float(), self._scale).contiguous(memory_format=torch.channels_last)


def _split(count: int, holdout: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HOLDOUT_SEED))
    return order[holdout:].sort().values, order[:holdout].sort().values


def _test_images(data: ImageData, train: ImageSet, held_out: Tensor) -> tuple[Tensor, Tensor]:
    if data.evaluate == "test":
        test = load_images(data.name, "test")
        if test.classes != train.classes:
            raise DataError(f"{data.name}: the test split has other classes than the training split")
        return test.images, test.labels
    if not len(held_out):
        raise DataError(
            "data.evaluate=validation needs data.holdout above 0: the number of training images to set aside"
        )
    return train.images[held_out], train.labels[held_out]


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, as fractions of 255, from exact counts of pixel values."""
    values = torch.arange(256, dtype=torch.float64) / 255.0
    counts = [torch.bincount(images[:, channel].flatten().int(), minlength=256) for channel in range(images.shape[1])]
    shares = torch.stack(counts).double() / counts[0].sum()
    mean = shares @ values
    std = (shares @ values.square() - mean.square()).sqrt().clamp(min=1e-3)
    return mean.float(), std.float()
