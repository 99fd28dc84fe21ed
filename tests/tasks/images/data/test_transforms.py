"""What torchvision does to images here, against the same by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.errors import HeadstartError
from headstart.tasks.images.data.transforms import evaluation_transform, training_transform
from tests.tasks.images.photos import torchvision_works

installed = pytest.mark.skipif(not torchvision_works(), reason="needs torchvision: pip install 'headstart[vision]'")


def photo(width: int, height: int) -> Image.Image:
    """Every pixel tells where it is."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8))


@installed
@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (300, 300)])
def test_held_out_images_are_cut_in_the_centre(width: int, height: int) -> None:
    found = evaluation_transform(224)(photo(width, height))
    scale = 256 / min(width, height)
    resized = photo(width, height).resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)


@installed
def test_training_images_are_parts_of_8_to_100_percent() -> None:
    areas = []
    for _ in range(300):
        found = training_transform(32, flip=False)(photo(400, 300)).float()
        assert found.shape == (3, 32, 32)
        width, height = (float(found[channel].max() - found[channel].min()) / 255 for channel in (0, 1))
        areas.append(width * height)
    # Uniform over [0.08, 1], but for the rare shapes that do not fit; resizing takes a little off the edges.
    assert min(areas) > 0.05 and max(areas) > 0.8
    assert 0.35 < np.mean(areas) < 0.56


@installed
def test_training_draws_from_torchs_generator() -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(training_transform(16, flip=False)(photo(40, 30)))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_without_torchvision_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HeadstartError, match=r"cannot be imported.*pip install 'headstart\[vision\]'"):
        training_transform(224, flip=True)


@installed
@pytest.mark.parametrize("flip", [True, False])
def test_half_of_the_images_are_mirrored_where_that_is_wanted(flip: bool) -> None:
    transform, rising = training_transform(16, flip=flip), photo(40, 30)
    mirrored = [bool(image[0, 0, 0] > image[0, 0, -1]) for image in (transform(rising) for _ in range(200))]
    assert 70 <= sum(mirrored) <= 130 if flip else not any(mirrored)  # 4 standard deviations
