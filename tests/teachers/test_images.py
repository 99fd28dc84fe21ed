"""Image processors of transformers, as a normalisation of values from 0 to 1."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from headstart.teachers.images import normalisation_of


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        ({"image_mean": [0.5], "image_std": [0.25]}, lambda pixels: (pixels / 255 - 0.5) / 0.25),
        ({"do_normalize": False, "image_mean": [0.5], "image_std": [0.25]}, lambda pixels: pixels / 255),
        ({"do_rescale": False, "do_normalize": False}, lambda pixels: pixels),
        ({"do_rescale": False, "image_mean": [123.0], "image_std": [58.0]}, lambda pixels: (pixels - 123) / 58),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0], "image_std": [0.5]}, lambda p: (p / 127.5 - 1) / 0.5),
        ({"rescale_factor": 1 / 127.5, "offset": True, "do_normalize": False}, lambda pixels: pixels / 127.5 - 1),
    ],
)
def test_it_does_what_the_processor_does(processor: dict[str, Any], wanted: Any) -> None:
    pixels = torch.tensor([0.0, 51.0, 255.0], dtype=torch.float64)
    found = normalisation_of({"do_rescale": True, **processor}, 1)
    assert found is not None
    ((mean,), (std,)) = found
    torch.testing.assert_close((pixels / 255 - mean) / std, wanted(pixels))


def test_nothing_is_made_up() -> None:
    assert normalisation_of({"size": 3}, 3) is None
    assert normalisation_of({"do_normalize": True}, 3) is None
