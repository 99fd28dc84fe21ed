"""Which position a label belongs to, from the rows in which a loss has a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.adapters.label_shift import is_shifted

PROMPT = torch.tensor([[-100, -100, 3, 4, -100], [-100, 1, 2, 3, 4]])
WHOLE = torch.tensor([[1, 2, 3], [3, 2, 1]])  # no row without a label: only the last position tells


def touched(labels: Tensor, *, shifted: bool) -> Tensor:
    """The rows in which the cross-entropy has a gradient, by autograd."""
    logits = torch.randn(*labels.shape, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows, classes = (logits[:, :-1], labels[:, 1:]) if shifted else (logits, labels)
    F.cross_entropy(rows.flatten(0, 1), classes.flatten()).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return logits.grad.abs().amax(-1) > 0


@pytest.mark.parametrize("labels", [PROMPT, WHOLE], ids=["prompts", "no row without a label"])
@pytest.mark.parametrize("shifted", [False, True])
def test_found_from_the_gradient(labels: Tensor, shifted: bool) -> None:
    assert is_shifted(touched(labels, shifted=shifted), labels) is shifted


@pytest.mark.parametrize("shifted", [False, True])
def test_a_label_that_is_learned_to_the_last_digit_leaves_no_gradient(shifted: bool) -> None:
    rows = touched(PROMPT, shifted=shifted)
    rows[1, 2] = False
    assert is_shifted(rows, PROMPT) is shifted


@pytest.mark.parametrize("rows", [torch.zeros(2, 5, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)])
def test_rows_that_tell_nothing(rows: Tensor) -> None:
    """None, and all: a term of the loss that every row has."""
    assert is_shifted(rows, PROMPT) is None
