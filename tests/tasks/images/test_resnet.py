"""The ResNets for small images, and models by name."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.images import ImageModel, build_model
from headstart.tasks.images.resnet import Block, ResNet


def parameters(depth: int, width: int, channels: int, classes: int) -> int:
    """Count by hand: 3x3 convolutions without bias, two numbers a channel of BatchNorm, a linear layer."""
    blocks, total, before = (depth - 2) // 6, 9 * channels * width + 2 * width, width
    for stage in range(3):
        now = width * 2**stage
        total += 9 * before * now + 9 * now * now + 4 * now + (blocks - 1) * (18 * now * now + 4 * now)
        before = now
    return total + before * classes + classes


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_has_the_parameters_of_the_paper(depth: int, millions: float) -> None:
    model = ResNet(depth, classes=10)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize(("depth", "width", "channels", "classes"), [(8, 16, 1, 10), (14, 5, 3, 7), (8, 32, 4, 2)])
def test_takes_any_width_and_channels(depth: int, width: int, channels: int, classes: int) -> None:
    model = ResNet(depth, classes=classes, channels=channels, width=width)
    assert sum(p.numel() for p in model.parameters()) == parameters(depth, width, channels, classes)
    assert model(torch.zeros(2, channels, 12, 20)).shape == (2, classes)


@pytest.mark.parametrize("depth", [2, 7, 18, 51])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"6n \\+ 2 layers .*not {depth}"):
        ResNet(depth, classes=10)


def test_the_shortcut_takes_every_other_pixel_and_pads_channels() -> None:
    block = Block(2, 4, stride=2)
    torch.nn.init.zeros_(block.bn2.weight)
    images = torch.rand(1, 2, 6, 6)
    expected = torch.zeros(1, 4, 3, 3)
    expected[:, 1:3] = images[:, :, ::2, ::2]
    assert torch.equal(block(images), F.relu(expected))


def test_fresh_weights_follow_from_the_default_generator() -> None:
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(build_model(ImageModel(name="resnet8", width=4), classes=3, channels=1))
    one, same, other = (model.state_dict()["conv1.weight"] for model in models)
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "model.name='resnet21': .* 6n \\+ 2 layers .*not 21"),
        ("vgg", "model.name='vgg' is unknown; give resnet8, .* timm:NAME or torchvision:NAME"),
        ("jax:resnet8", "is unknown"),
    ],
)
def test_an_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_model(ImageModel(name=name), classes=10, channels=3)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_a_missing_library_is_named_with_the_extra_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("timm", "torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HeadstartError, match=r"cannot be imported.*pip install 'headstart\[vision\]'"):
        build_model(ImageModel(name=name), classes=10, channels=3)


def test_a_name_that_a_library_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, **_: object) -> None:
        raise ValueError(name)

    timm, torchvision = SimpleNamespace(is_model=lambda name: False), SimpleNamespace(get_model=unknown)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", torchvision)
    with pytest.raises(RecipeError, match="timm has no such model"):
        build_model(ImageModel(name="timm:resnt18"), classes=10, channels=3)
    with pytest.raises(RecipeError, match="torchvision has no such model"):
        build_model(ImageModel(name="torchvision:resnt18"), classes=10, channels=3)
    with pytest.raises(RecipeError, match="takes 3 channels, the images have 1; take a timm model"):
        build_model(ImageModel(name="torchvision:resnet18"), classes=10, channels=1)


@pytest.mark.parametrize(("library", "channels"), [("timm", 1), ("torchvision", 3)])
def test_builds_a_model_of_a_library(library: str, channels: int) -> None:
    try:
        model = build_model(ImageModel(name=f"{library}:resnet18"), classes=7, channels=channels)
    except HeadstartError as error:
        pytest.skip(str(error))
    assert model(torch.zeros(2, channels, 32, 32)).shape == (2, 7)
