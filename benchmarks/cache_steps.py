"""Training steps for cache.py: that read their targets, that have them in memory, that ask a live teacher."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from cache_files import TEMPERATURE, peaked_logits, write_blocks
from overhead import check_same_loss
from overhead_steps import SGD, TOTAL_STEPS, WEIGHT, Autocast
from torch import Tensor, nn
from torch.nn import functional as F

from headstart import Distiller, TeacherPool
from headstart.cache import CachedTeacher, Keep
from headstart.distill import Teacher
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.tasks.images.resnet import ResNet
from step_times import Step

IMAGE_CLASSES, VOCABULARY = 1000, 30522
SEQUENCES, LENGTH, MASKED, WIDTH = 32, 128, 19, 128


class InMemory(TargetSource):
    """Gives targets that are in memory already, as they are to be used."""

    name = "in memory"

    def __init__(self, target: Target) -> None:
        self.target = target

    def targets(self, inputs: object, keys: Keys | None) -> Target:
        """Always the same ones."""
        return self.target

    def to(self, device: torch.device) -> None:
        """They are there."""

    def check(self, use: Use) -> None:
        """They are good for the loss below."""


class TinyMlm(nn.Module):
    """A small encoder whose head sees the masked positions alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[sequences * MASKED, vocabulary]`: the first tokens of each sequence stand for masked ones."""
        logits: Tensor = self.head(self.encoder(self.embedding(tokens))[:, :MASKED].flatten(0, 1))
        return logits


class Student:
    """A student with its optimiser, and one batch which every step uses alike."""

    def __init__(self, module: nn.Module, inputs: Tensor, rows: int, classes: int) -> None:
        self.module = module.train()
        self.inputs, self.rows, self.classes = inputs, rows, classes
        self.labels = torch.randint(classes, (rows,), device=inputs.device)
        self.optimizer = torch.optim.SGD(module.parameters(), **SGD)

    @classmethod
    def of_images(cls, depth: int, size: int, device: torch.device) -> Student:
        """A ResNet for 1000 classes, on a batch of small images."""
        images = torch.randn(size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        return cls(resnet(depth, device), images, size, IMAGE_CLASSES)

    @classmethod
    def of_tokens(cls, device: torch.device) -> Student:
        """A small encoder with a large vocabulary, on a batch of sequences."""
        tokens = torch.randint(VOCABULARY, (SEQUENCES, LENGTH), device=device)
        return cls(Autocast(TinyMlm()).to(device), tokens, SEQUENCES * MASKED, VOCABULARY)

    def plain_step(self) -> Step:
        """A step without distillation."""

        def step() -> Tensor:
            return self._update(F.cross_entropy(self.module(self.inputs), self.labels))

        return step

    def distilling_step(self, source: TargetSource, keys: Iterator[Keys] | None = None) -> Step:
        """A step that distils, asking a source for the targets of the next keys."""
        pool = TeacherPool([source])
        distiller = Distiller(pool, total_steps=TOTAL_STEPS, stop=1.0, temperature=TEMPERATURE, weight=WEIGHT)

        def step() -> Tensor:
            logits = self.module(self.inputs)
            task = F.cross_entropy(logits, self.labels)
            loss = distiller(task, logits, self.inputs, keys=None if keys is None else next(keys))
            loss = self._update(loss)
            distiller.step()
            return loss

        return step

    def reading_steps(self, folder: Path, keep: Keep, *, blocks: int, shuffled: bool = False) -> tuple[Step, Step]:
        """A distilling step that reads a block that none before it has read, and one with its targets in memory.

        Args:
            folder: For the cache.
            keep: What is kept of each target.
            blocks: How many steps can be made until a block is read again.
            shuffled: Read samples in another order than they were written in, from many blocks at once.

        Raises:
            ArithmeticError: The two give different losses.
        """
        samples = len(self.inputs)
        logits = peaked_logits(self.rows, self.classes)
        keys = write_blocks(folder, logits, keep, samples=samples, blocks=blocks)
        in_memory = self.distilling_step(InMemory(self._first(folder, keys[0])))
        # Blocks hold the same targets, so that in the written order the loss is the same at every step.
        check_same_loss(str(keep.kind), self.distilling_step(CachedTeacher(folder, "old"), iter(keys)), in_memory)
        if shuffled:
            order = torch.randperm(samples * blocks, generator=torch.Generator().manual_seed(0))
            keys = [Keys(samples_of_step, 0) for samples_of_step in order.view(blocks, samples)]
        return self.distilling_step(CachedTeacher(folder, "old"), cycle(keys)), in_memory

    def _first(self, folder: Path, keys: Keys) -> Target:
        teacher = CachedTeacher(folder, "old")
        teacher.to(self.inputs.device)
        return teacher.targets(None, keys)

    def _update(self, loss: Tensor) -> Tensor:
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def resnet(depth: int, device: torch.device) -> nn.Module:
    """A ResNet for 1000 classes with random weights, in bf16."""
    network = Autocast(ResNet(depth, classes=IMAGE_CLASSES)).to(device)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def live_teacher(depth: int, device: torch.device) -> Teacher:
    """The same as a teacher."""
    return Teacher(resnet(depth, device))
