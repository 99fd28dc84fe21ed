"""The one pass on tiny tensors: made to run at any size, in chunks of a few rows."""

from __future__ import annotations

import pytest

from headstart.distill.fused import linear, loss, rows


@pytest.fixture
def always_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pass run however few the logits are; 7 classes then make chunks of 2 rows."""
    monkeypatch.setattr(loss, "_MANY", 0)
    monkeypatch.setattr(loss, "_MANY_WITHOUT", 0)
    monkeypatch.setattr(rows, "_elements", lambda _: 15)
    monkeypatch.setattr(linear, "_CHUNK", 22)
