"""Which of a model's outputs are logits, and what has none to distil."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

from headstart.adapters.model_head import check_labels, logits_of
from headstart.errors import HeadstartError

LOGITS = torch.zeros(1, 3)


def test_where_the_logits_are() -> None:
    assert logits_of({"loss": 1.0, "logits": LOGITS}, after_loss=True) is LOGITS
    assert logits_of(SimpleNamespace(logits=LOGITS), after_loss=False) is LOGITS
    assert logits_of(LOGITS, after_loss=False) is LOGITS
    assert logits_of((1.0, LOGITS), after_loss=True) is LOGITS
    assert logits_of((LOGITS, LOGITS + 1), after_loss=False) is LOGITS


@pytest.mark.parametrize("outputs", [{"loss": 1.0, "logits": (LOGITS, LOGITS)}, (1.0,), None])
def test_outputs_without_logits(outputs: Any) -> None:
    assert logits_of(outputs, after_loss=True) is None


def test_labels_that_are_no_tensor() -> None:
    check_labels(torch.zeros(2))
    with pytest.raises(HeadstartError, match="a list of dict, one for each sample, as object detection has them"):
        check_labels([{"boxes": torch.zeros(1, 4)}])
