"""Which position a label belongs to: found from where the task loss has a gradient."""

from __future__ import annotations

from torch import Tensor

from headstart.adapters.next_token import next_tokens
from headstart.distill.objective import IGNORED


def labels_by_row(labels: Tensor, *, shifted: bool) -> Tensor:
    """The label of each row of the logits.

    Args:
        labels: As the model takes them.
        shifted: Whether they are those of the next position, as causal models have them.
    """
    return next_tokens(labels) if shifted else labels


def is_shifted(touched: Tensor, labels: Tensor) -> bool | None:
    """Whether labels are those of the next position.

    A row in which the task loss has a gradient has a label. Where both readings explain all of these rows, the one with
    fewer labels that have no gradient is right: of a text without a prompt, the last position tells.

    Args:
        touched: Rows in which it has one, `[batch, positions]` of bool.
        labels: As the model takes them, of the same shape.

    Returns:
        None where these rows do not tell: there are none, or neither reading explains them.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[-100, 7, 8, -100]])
        >>> is_shifted(torch.tensor([[True, True, False, False]]), labels)
        True
        >>> is_shifted(labels != -100, labels)
        False
    """
    if not bool(touched.any()):
        return None
    unexplained, silent = {}, {}
    for shifted in (False, True):
        labelled = labels_by_row(labels, shifted=shifted) != IGNORED
        unexplained[shifted] = int((touched & ~labelled).sum())
        silent[shifted] = int((labelled & ~touched).sum())
    explaining = [shifted for shifted, count in unexplained.items() if not count]
    if len(explaining) == 1:
        return explaining[0]
    if not explaining or silent[False] == silent[True]:
        return None
    return silent[True] < silent[False]
