"""The picture of a race's speed-ups: which arms it shows, and what an interval says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from speedup_picture import draw, speedups, verdict

FIGURES = {
    "speedup_over_overlap.slow.calibrated": {"value": 0.5, "low": 0.4, "high": 0.6},
    "speedup_over_overlap.quick.calibrated": {"value": 2.0, "low": 1.5},
    "speedup_over_overlap.open.calibrated": {"value": 1.5, "low": 0.0, "high": 1.9},
    "speedup_over_overlap.quick.flops": {"value": 9.0},
    "speedup_at_baseline_best.quick.calibrated": {"value": 9.0},
}


def test_arms_are_sorted_and_of_one_figure_and_clock() -> None:
    arms = speedups(FIGURES, "speedup_over_overlap", "calibrated")
    assert [(name, arm["value"]) for name, arm in arms.items()] == [("slow", 0.5), ("open", 1.5), ("quick", 2.0)]


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        ({"low": 1.1, "high": 2.0}, "faster"),
        ({"low": 1.1}, "faster"),
        ({"low": 0.2, "high": 0.9}, "slower"),
        ({"low": 0.0, "high": 0.9}, "slower"),
        ({"low": 0.9, "high": 1.1}, "not resolved"),
        ({}, "not resolved"),
    ],
)
def test_an_interval_away_from_1_says_something(estimate: dict[str, float], said: str) -> None:
    assert verdict({"value": 1.0, **estimate}) == said


def test_the_picture_is_written(tmp_path: Path) -> None:
    draw(speedups(FIGURES, "speedup_over_overlap", "calibrated"), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] > 500 and pixels.min() < 60 and pixels.max() == 255
