"""What a task is to those who train it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from headstart.distill.projection import Logits


@dataclass(frozen=True)
class Mixed:
    """What else the rows of a batch are: each is a mixture of two.

    Attributes:
        labels: Of the second parts, like the batch's, which are those of the first.
        share: Of the first parts, in [0, 1].
    """

    labels: Tensor
    share: float


@dataclass(frozen=True)
class Batch:
    """What a micro-batch is made of.

    Attributes:
        inputs: As the model takes them, on the task's device.
        labels: One class for each row of the logits, int64, on the task's device.
        samples: Which training samples these are, int64 [samples], on the CPU. Together with the epoch they tell how
            the inputs were augmented.
        epoch: How many times the training data has been gone through before.
        mixed: The second labels, where inputs are mixtures of two.
        items: What the sum of the rows' losses is divided by; None: the number of rows with a label. Given where that
            number differs between batches of one size, so that a row weighs the same however a step's batch is cut.
        partners: Where samples are mixed with others of the training set, which those are, int64 [samples], on the CPU:
            cached targets are then those of the mixtures.
    """

    inputs: Any
    labels: Tensor
    samples: Tensor
    epoch: int
    mixed: Mixed | None = None
    items: int | None = None
    partners: Tensor | None = None


@dataclass(frozen=True)
class Evaluation:
    """Held-out quality of a model: the metric, and further figures by name; each a mean over so many rows."""

    quality: float
    others: Mapping[str, float]
    rows: int


@runtime_checkable
class FewViews(Protocol):
    """Training samples that augmentation shows in so few ways that a cache can hold a target of each.

    Attributes:
        samples: Their number.
    """

    samples: int

    @property
    def views(self) -> int | None:
        """How many ways: 1 where nothing is drawn, 2 with a flip alone. None: too many."""
        ...  # pragma: no cover

    def view_of(self, samples: Tensor, epoch: int) -> Tensor:
        """Which of them each sample is seen in, in an epoch: int64 like `samples`, `[batch]`, both on the CPU."""
        ...  # pragma: no cover

    def view(self, samples: Tensor, number: int) -> Batch:
        """A batch of samples, all of them seen in that way, which stands in the epoch's place."""
        ...  # pragma: no cover


class Task(Protocol):
    """Model, data, loss and metric of one kind of training.

    Attributes:
        metric: Name of the quality's metric, for example `accuracy`.
        higher_is_better: Its direction.
        samples: Number of training samples of one epoch.
        num_classes: Number of logits of a row.
    """

    metric: str
    higher_is_better: bool
    samples: int
    num_classes: int

    @property
    def own_loss(self) -> bool:
        """Whether the task loss is another than the cross-entropy with one label a row.

        That one is computed along with a distillation loss, in the same pass; any other by `loss`.
        """
        ...  # pragma: no cover

    def build_model(self) -> nn.Module:
        """A new student with weights from torch's default generator."""
        ...  # pragma: no cover

    def describe(self) -> dict[str, Any]:
        """What a run folder has to hold so that its weights can be used as a teacher; JSON."""
        ...  # pragma: no cover

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """One of the equal parts of a step's batch: a pure function of its arguments and the task's seed."""
        ...  # pragma: no cover

    def forward(self, model: nn.Module, inputs: Any) -> Logits:
        """The model's logits, `[rows, classes]`, or what they can be made of.

        The model may be wrapped, compiled, or a teacher's.
        """
        ...  # pragma: no cover

    def loss(self, logits: Any, batch: Batch) -> Tensor:
        """The task loss of a batch, a scalar, of what `forward` gave."""
        ...  # pragma: no cover

    def evaluate(self, forward: Callable[[Any], Any], *, part: int = 0, parts: int = 1) -> Evaluation:
        """Held-out quality of the model whose forward, from inputs to logits, is given.

        Of several equal parts of the held-out data, this one's: each of some processes takes one. Whichever it is, the
        forward is called equally often, because a sharded model must be run by all processes at once.
        """
        ...  # pragma: no cover

    def held_out(self, size: int) -> Iterator[Batch]:
        """What `evaluate` judges by, in batches of `size` samples at most, with labels."""
        ...  # pragma: no cover

    def save_beside(self, folder: Path) -> None:
        """Write what other programs need beside the weights in a run folder (a configuration, a tokenizer)."""
        ...  # pragma: no cover
