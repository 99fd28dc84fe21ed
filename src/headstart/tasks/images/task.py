"""Image classification: uint8 images from a feed, augmented in batches on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.tasks.images.augment import augment, is_mirrored
from headstart.tasks.images.config import ImageData, ImageModel
from headstart.tasks.images.data.feed import Feed
from headstart.tasks.images.data.in_memory import ImagesInMemory
from headstart.tasks.images.data.streamed import StreamedImages
from headstart.tasks.images.losses import begin_unlikely, binary_cross_entropy, soft_labels
from headstart.tasks.images.mixup import mixed_with_neighbours, mixing_share
from headstart.tasks.images.models import build_model
from headstart.tasks.task import Batch, Evaluation, Mixed

TaskLoss = Literal["cross-entropy", "bce"]


class ImageClassification:
    """Images, held in memory or streamed from the disk; a batch is a pure function of (seed, step).

    Args:
        model: The student.
        data: The images.
        seed: Seed of the order and the augmentation.
        label_smoothing: Of the task loss.
        task_loss: Cross-entropy, or binary cross-entropy, for which each class is a yes or no.
        device: Where batches are made; small images are kept there.

    Raises:
        DataError: The images cannot be had, or leave nothing to train on or to judge by.
        HeadstartError: Images are to be streamed, and torchvision is not installed.
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
        task_loss: TaskLoss = "cross-entropy",
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.data, self.seed, self.label_smoothing = model, data, seed, label_smoothing
        self.task_loss: TaskLoss = task_loss
        self._feed = _feed(data, seed, device)
        # Workers mirror what they decode.
        self._augment = data.augment if data.size is None else data.augment.model_copy(update={"flip": False})
        self.classes, self.num_classes = self._feed.classes, len(self._feed.classes)
        self.samples = self._feed.samples
        self.mean, self.std = self._feed.mean, self._feed.std
        self._scale = (1.0 / (255.0 * self.std)).view(1, -1, 1, 1).to(device)
        self._shift = (-self.mean / self.std).view(1, -1, 1, 1).to(device)

    @property
    def own_loss(self) -> bool:
        """Whether the task loss is another than the cross-entropy with one label a row."""
        return self.task_loss != "cross-entropy" or self.data.augment.mixup > 0

    def build_model(self) -> nn.Module:
        """A new student, in channels_last, which is what convolutions are fastest in."""
        model = build_model(self.model, classes=self.num_classes, channels=self._feed.shape[0])
        if self.task_loss == "bce":
            begin_unlikely(model, self.num_classes)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def describe(self) -> dict[str, Any]:
        """Model, classes and normalisation: what turns weights into a teacher."""
        return {
            "task": "image-classification",
            "model": self.model.model_dump(),
            "classes": list(self.classes),
            "channels": self._feed.shape[0],
            "size": list(self._feed.shape[1:]),
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
        drawn = self._feed.training(step, size, part=part, parts=parts)
        there = drawn.samples.to(drawn.images.device, non_blocking=True)
        pixels = augment(drawn.images, there, self._augment, seed=self.seed, epoch=drawn.epoch)
        inputs, mixed = self._normalised(pixels), None
        if self.data.augment.mixup:
            share = mixing_share(self.data.augment.mixup, seed=self.seed, step=step)
            inputs, mixed = mixed_with_neighbours(inputs, share), Mixed(drawn.labels.roll(1), share)
        return Batch(inputs, drawn.labels, drawn.samples, drawn.epoch, mixed)

    @property
    def views(self) -> int | None:
        """How many images augmentation makes of one; None where these are many."""
        return self.data.views

    def view_of(self, samples: Tensor, epoch: int) -> Tensor:
        """Which of them each sample is in an epoch: 0 as it is stored, 1 mirrored."""
        if not self.data.augment.flip:
            return torch.zeros_like(samples)
        return is_mirrored(samples, seed=self.seed, epoch=epoch).long()

    def view(self, samples: Tensor, number: int) -> Batch:
        """The images of these samples, all as they are stored (0) or all mirrored (1)."""
        assert isinstance(self._feed, ImagesInMemory)
        drawn = self._feed.stored(samples)
        pixels = drawn.images.flip(-1) if number else drawn.images
        return Batch(self._normalised(pixels), drawn.labels, samples, number)

    def forward(self, model: nn.Module, inputs: Any) -> Tensor:
        """The model's logits, `[images, classes]`."""
        logits: Tensor = model(inputs)
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The task loss, mean over the batch."""
        if not self.own_loss:
            return F.cross_entropy(logits.float(), batch.labels, label_smoothing=self.label_smoothing)
        target = soft_labels(batch, self.num_classes, smoothing=self.label_smoothing)
        if self.task_loss == "bce":
            return binary_cross_entropy(logits, target)
        return F.cross_entropy(logits.float(), target)

    @torch.no_grad()
    def evaluate(
        self, forward: Callable[[Any], Tensor], *, part: int = 0, parts: int = 1, size: int = 500
    ) -> Evaluation:
        """Accuracy and cross-entropy on the held-out images, all of them or one of several parts."""
        right, loss, rows = 0, 0.0, 0
        for pixels, labels in self._feed.held_out(size, part=part, parts=parts):
            logits = forward(self._normalised(pixels)).float()[: len(labels)]
            right += int((logits.argmax(-1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            rows += len(labels)
        return Evaluation(right / max(rows, 1), {"held_out_loss": loss / max(rows, 1)}, rows)

    def held_out(self, size: int) -> Iterator[Batch]:
        """The held-out images, not augmented."""
        first = 0
        for pixels, labels in self._feed.held_out(size, part=0, parts=1):
            samples = torch.arange(first, first + len(labels))
            first += len(labels)
            yield Batch(self._normalised(pixels[: len(labels)]), labels, samples, 0)

    def save_beside(self, folder: Path) -> None:
        """Nothing: the weights' description is all that is needed."""

    def _normalised(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self._shift, pixels.float(), self._scale).contiguous(memory_format=torch.channels_last)


def _feed(data: ImageData, seed: int, device: torch.device | str) -> Feed:
    if data.size is None:
        return ImagesInMemory(data, seed=seed, device=device)
    return StreamedImages(data, seed=seed, device=device)
