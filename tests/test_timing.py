"""Seconds of calls, by a clock that the calls themselves move on."""

from __future__ import annotations

import pytest
import torch

from headstart import timing


def test_the_quickest_of_some_calls_counts_and_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now, took = [0.0], iter([0.5, 3.0, 2.0, 4.0])

    def call() -> None:
        now[0] += next(took)

    monkeypatch.setattr("headstart.timing.time.perf_counter", lambda: now[0])
    assert timing.quickest(call, torch.device("cpu")) == 2.0
    assert next(took, None) is None


def test_a_device_that_computes_nothing_is_not_waited_for() -> None:
    timing.wait_for(torch.device("meta"))
