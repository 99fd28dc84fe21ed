"""Augmentation: a pure function of (seed, epoch, sample), and equal to a slow reference, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headstart.tasks.images import Augment
from headstart.tasks.images.augment import augment
from tests.tasks.reference import reference_below

EVERYTHING = Augment(crop=2, flip=True, cutout=3)


def reference_augment(image: np.ndarray, sample: int, settings: Augment, *, seed: int, epoch: int) -> np.ndarray:
    """Pad and crop, then flip, then cut out, as a person would write it for one image."""

    def below(limit: int, stream: int) -> int:
        return reference_below(limit, sample, seed=seed, epoch=epoch, stream=stream)

    _, height, width = image.shape
    mirrored = settings.flip and below(2, 0) == 1
    pad = settings.crop
    if pad:
        top, left = below(2 * pad + 1, 1), below(2 * pad + 1, 2)
        image = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))[:, top : top + height, left : left + width]
    image = image[:, :, ::-1].copy() if mirrored else image.copy()
    if settings.cutout:
        top = below(height, 3) - settings.cutout // 2
        left = below(width, 4) - settings.cutout // 2
        image[:, max(top, 0) : top + settings.cutout, max(left, 0) : left + settings.cutout] = 0
    return image


@pytest.mark.parametrize(
    "settings",
    [Augment(), Augment(flip=True), Augment(crop=1), Augment(crop=9), Augment(cutout=1), Augment(cutout=4), EVERYTHING],
    ids=str,
)
def test_agrees_with_the_slow_reference(settings: Augment) -> None:
    images = torch.randint(1, 256, (60, 3, 6, 7), dtype=torch.uint8)
    samples = torch.randperm(50_000)[:60]
    found = augment(images, samples, settings, seed=3, epoch=5)
    assert found.dtype == torch.uint8
    for image, sample, result in zip(images.numpy(), samples.tolist(), found.numpy(), strict=True):
        np.testing.assert_array_equal(result, reference_augment(image, sample, settings, seed=3, epoch=5))


def test_an_image_does_not_depend_on_the_rest_of_its_batch() -> None:
    images, samples = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8), torch.arange(100, 112)
    together = augment(images, samples, EVERYTHING, seed=0, epoch=1)
    order = torch.randperm(12)
    shuffled = augment(images[order], samples[order], EVERYTHING, seed=0, epoch=1)
    alone = [augment(images[i : i + 1], samples[i : i + 1], EVERYTHING, seed=0, epoch=1) for i in range(12)]
    assert torch.equal(together[order], shuffled)
    assert torch.equal(together, torch.cat(alone))


def test_cutout_at_the_border_blanks_what_is_inside() -> None:
    images, samples = torch.ones(500, 1, 8, 8), torch.arange(500)
    blanked = (augment(images, samples, Augment(cutout=4), seed=0, epoch=0) == 0).flatten(1).sum(1)
    # The centre is inside the image, so between 2 and 4 pixels of each side are.
    assert set(blanked.tolist()) == {2 * 2, 2 * 3, 2 * 4, 3 * 3, 3 * 4, 4 * 4}
