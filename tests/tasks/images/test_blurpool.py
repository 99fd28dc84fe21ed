"""BlurPool: the filter, what it is put before and after, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor, nn

from headstart.distill.flops import count_flops
from headstart.errors import RecipeError
from headstart.tasks.images import ImageModel, build_model
from headstart.tasks.images.blurpool import BlurConv2d, BlurMaxPool2d, with_blurpool

BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def blurred(images: Tensor) -> Tensor:
    """Each channel by scipy."""
    planes = images.flatten(0, 1).numpy()
    done = [signal.convolve2d(plane, BINOMIAL, mode="same") for plane in planes]
    return torch.from_numpy(np.stack(done)).view_as(images).to(images.dtype)


def test_a_convolution_sees_the_blurred_image_and_keeps_its_weights() -> None:
    plain = nn.Conv2d(16, 4, 3, stride=2, padding=1, groups=2)
    model = with_blurpool(nn.Sequential(plain))
    images = torch.randn(2, 16, 9, 11)
    assert isinstance(model[0], BlurConv2d) and model[0].weight is plain.weight
    torch.testing.assert_close(model(images), plain(blurred(images)), rtol=1e-4, atol=1e-5)


def test_pooling_looks_at_every_pixel_and_is_blurred_then() -> None:
    model = with_blurpool(nn.Sequential(nn.MaxPool2d(3, 2, 1)))
    images = torch.randn(2, 3, 9, 12)
    assert isinstance(model[0], BlurMaxPool2d)
    every = nn.functional.max_pool2d(images, 3, 1, 1)
    torch.testing.assert_close(model(images), blurred(every)[:, :, ::2, ::2], rtol=1e-5, atol=1e-6)


def test_what_has_no_stride_or_looks_at_colours_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 7, stride=2), nn.Conv2d(16, 16, 3), nn.MaxPool2d(3, 1), nn.MaxPool2d(2))
    kept = list(model)[:3]
    assert list(with_blurpool(model))[:3] == kept and isinstance(model[3], BlurMaxPool2d)


def test_names_and_numbers_of_weights_are_those_without_it() -> None:
    states = []
    for blurpool in (False, True):
        torch.manual_seed(0)
        states.append(build_model(ImageModel(name="resnet8", blurpool=blurpool), classes=3, channels=3).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_moved_image_changes_less() -> None:
    """Zhang's measure: how far the outputs of an image and of the same one moved by a pixel lie apart."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(16, 64, 3, stride=2, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2), nn.ReLU())
    images = torch.randn(8, 16, 40, 40)

    def change() -> float:
        outputs = [layers(images.roll(shift, -1))[..., 2:-2, 2:-2].mean((2, 3)) for shift in (0, 1)]
        return float((outputs[0] - outputs[1]).norm() / outputs[0].std())

    with torch.no_grad():
        before = change()
        with_blurpool(layers)
        assert change() < 0.7 * before


def test_its_work_is_counted() -> None:
    model = with_blurpool(nn.Sequential(nn.Conv2d(16, 8, 1, stride=2, bias=False)))
    blur, convolution = 2 * 9 * 16 * 8 * 8, 2 * 16 * 8 * 4 * 4
    assert count_flops(lambda: model(torch.zeros(1, 16, 8, 8))) == blur + convolution


def test_a_model_without_anything_to_blur_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"model.blurpool: the model has no strided convolution or pooling"):
        with_blurpool(nn.Sequential(nn.Conv2d(16, 16, 3)))


def test_it_is_the_same_in_half_precision_and_channels_last() -> None:
    model = with_blurpool(nn.Sequential(nn.Conv2d(16, 8, 3, stride=2), nn.MaxPool2d(2)))
    images = torch.randn(2, 16, 16, 16)
    expected = model(images)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
