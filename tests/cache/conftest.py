"""A clock that makes caches of the same targets the same bytes."""

from __future__ import annotations

import pytest

from headstart.cache import build
from tests.cache.toy import ticking_clock


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass in equal steps."""
    monkeypatch.setattr(build, "perf_counter", ticking_clock())
