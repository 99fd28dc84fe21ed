"""Progressive resizing: how large images are when, and that they stay the same images."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from headstart.tasks.images import ImageData
from headstart.tasks.images.progressive import resized, side_at, sides


def data(size: int, **progressive: float) -> ImageData:
    return ImageData.model_validate({"name": "x", "size": size, "progressive": progressive})


@pytest.mark.parametrize(
    "settings",
    [{}, {"increment": 16}, {"scale": 0.3, "start": 0.4, "stop": 0.9}, {"start": 0.5, "stop": 0.5}, {"scale": 0.99}],
    ids=str,
)
@pytest.mark.parametrize("size", [176, 50])
def test_sides_grow_from_first_to_last_in_the_time_given(size: int, settings: dict[str, float]) -> None:
    found = data(size, **settings)
    growing = found.progressive
    assert growing is not None
    seen = [side_at(found, step / 1000) for step in range(1000)]
    in_pixels = [side or size for side in seen]
    assert in_pixels == sorted(in_pixels) and set(seen) <= set(sides(found))
    assert all(side is None for side in seen[round(1000 * growing.stop) :])
    assert abs(in_pixels[0] - growing.scale * size) <= growing.increment / 2 or growing.stop == 0
    for side in seen:
        assert side is None or (side % growing.increment == 0 and side < size)
    middle = (growing.start + growing.stop) / 2
    if growing.start < growing.stop:
        halfway = size * (1 + growing.scale) / 2
        assert abs((side_at(found, middle) or size) - halfway) <= max(growing.increment / 2, size - halfway)


def test_without_the_section_images_keep_their_size() -> None:
    plain = ImageData(name="x", size=64)
    assert sides(plain) == [None] and side_at(plain, 0.1) is None
    images = torch.rand(2, 3, 8, 8)
    assert resized(images, None) is images


def test_a_smaller_image_is_the_same_image() -> None:
    columns = torch.linspace(0, 1, 64).expand(2, 3, 64, 64)
    smaller = resized(columns, 16)
    assert smaller.shape == (2, 3, 16, 16) and smaller.is_contiguous(memory_format=torch.channels_last)
    # Means of 4 columns each, where the filter does not reach over the border.
    expected = columns.view(2, 3, 64, 16, 4).mean(-1)[:, :, ::4]
    torch.testing.assert_close(smaller[..., 2:-2], expected[..., 2:-2], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"progressive": {}}, "progressive needs size"),
        ({"workers": 2}, "workers needs size"),
        ({"evaluate_size": 32}, "evaluate_size needs size"),
        ({"size": 32, "progressive": {"start": 0.9, "stop": 0.5}}, r"start=0.9 is after stop=0.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageData.model_validate({"name": "x", **content})
