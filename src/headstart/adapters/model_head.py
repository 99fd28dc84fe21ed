"""What a model's outputs are: which of them are logits, and what has none to distil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from headstart.distill.inputs import logits_in
from headstart.errors import HeadstartError


def logits_of(outputs: Any, after_loss: bool) -> Tensor | None:
    """The logits of a model's outputs, `[..., classes]`; None where there are none.

    Args:
        outputs: The logits alone, a mapping or an object that names them, or a tuple.
        after_loss: Whether a tuple begins with the loss, as that of a model which was given the labels does.

    Example:
        >>> import torch
        >>> logits_of((torch.ones(()), torch.zeros(2, 3)), after_loss=True).shape
        torch.Size([2, 3])
    """
    logits = logits_in(outputs)
    if logits is None and isinstance(outputs, Sequence):
        logits = next(iter(outputs[int(after_loss) :]), None)
    return logits if isinstance(logits, Tensor) else None


def loss_in(outputs: Any) -> Tensor | None:
    """The loss of a model's outputs, which a tuple begins with; None where there is none."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if loss is None and isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        loss = outputs[0] if outputs[0].dim() == 0 else None
    return loss


def check_labels(labels: Any) -> None:
    """Refuse labels that are no tensor.

    Raises:
        HeadstartError: They are not.

    Example:
        >>> check_labels(None)
    """
    if labels is None or isinstance(labels, Tensor):
        return
    inner = f" of {type(labels[0]).__name__}" if isinstance(labels, Sequence) and labels else ""
    raise HeadstartError(
        f"the labels of a batch are a {type(labels).__name__}{inner}, one for each sample, as object detection has "
        "them: no row of the logits belongs to a label, so that nothing can be distilled. What can be are models with "
        "a row of logits for each label: classes of images, texts, tokens or pixels, and language models"
    )
