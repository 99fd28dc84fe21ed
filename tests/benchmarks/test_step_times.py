"""Ratios of step times, on a clock that the steps themselves turn."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from step_times import Step, median_figure, paired_ratios

CPU = torch.device("cpu")


class FakeTime:
    """A clock on which nothing takes time but what the steps are said to take."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made: list[str] = []
        self.collecting: list[bool] = []

    def step(self, name: str, seconds: float, *, drift: float = 0.0) -> Step:
        def run() -> Tensor:
            self.now += seconds * (1.0 + drift * len(self.made))
            self.made.append(name)
            self.collecting.append(gc.isenabled())
            return torch.zeros(())

        return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTime]:
    time = FakeTime()
    with monkeypatch.context() as patch:
        patch.setattr("headstart.train.costs.clock.time.perf_counter", lambda: time.now)
        yield time


def test_pairs_are_interleaved_forwards_and_backwards(fake: FakeTime) -> None:
    paired_ratios(fake.step("b", 1.0), fake.step("a", 1.0), pairs=200, device=CPU)
    made = "".join(fake.made)
    assert made == "abba" * (len(made) // 4)
    assert made.count("a") == made.count("b") >= 200


def test_ratio_is_the_step_over_the_reference(fake: FakeTime) -> None:
    ratios = paired_ratios(fake.step("b", 3.0), fake.step("a", 2.0), pairs=9, device=CPU)
    assert ratios == pytest.approx([1.5] * 9)


def test_drift_cancels_out_of_the_median(fake: FakeTime) -> None:
    ratios = paired_ratios(fake.step("b", 1.0, drift=0.01), fake.step("a", 1.0, drift=0.01), pairs=200, device=CPU)
    assert all(abs(ratio - 1.0) > 1e-4 for ratio in ratios)
    assert median_figure(ratios).value == pytest.approx(1.0, abs=1e-4)


def test_no_garbage_is_collected_meanwhile(fake: FakeTime) -> None:
    paired_ratios(fake.step("b", 1.0), fake.step("a", 1.0), pairs=2, device=CPU)
    assert not any(fake.collecting)
    assert gc.isenabled()


def test_figure_is_the_median_with_its_interval() -> None:
    figure = median_figure([index / 100 for index in range(100, 0, -1)])
    assert (figure.value, figure.low, figure.high, figure.n) == (0.505, 0.40, 0.61, 100)
