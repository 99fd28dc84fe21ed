"""Where a layer's maps have their features, and what is refused where nothing tells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Size, Tensor, nn

from headstart.distill import HiddenLoss
from headstart.distill.hidden.features import Features, dim_of_features
from headstart.errors import HeadstartError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Last(nn.Module):
    """A block whose maps have their channels last, as those of Swin have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.map = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.map(self.norm(maps))
        return found


class Mixed(nn.Module):
    """A block of ConvNeXt's kind: a convolution, then linear maps on the other arrangement, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.map = nn.Conv2d(width, width, 3, padding=1, groups=width), Last(width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.map(self.conv(maps).movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


class Swin(nn.Module):
    """Blocks with channels last, on maps made of patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(3, width, 1)
        self.blocks = nn.Sequential(*(Last(width) for _ in range(2)))

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.blocks(self.into(images).movedim(1, -1))
        return maps


def convolutions(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1))


@pytest.mark.parametrize("width", [6, 8])  # 8 is the maps' height and width, too
def test_channels_last_meet_channels_first_place_by_place(width: int) -> None:
    student, teacher = convolutions(width), Swin(width)
    align = HiddenLoss(student, teacher, IMAGES, total_steps=4, layer="1", loss="mse", weight=1.0, falling=False)
    assert align.projection is None
    found = align(student(IMAGES).sum() * 0, IMAGES)
    expected = (student(IMAGES).movedim(1, -1) - teacher(IMAGES)).square().mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("layer", "shape", "dim"),
    [
        (nn.Conv2d(3, 8, 1), (2, 8, 4, 4), 1),
        (nn.Conv2d(3, 8, 1), (2, 8, 8, 8), 1),
        (nn.Conv3d(3, 8, 1), (2, 8, 4, 4, 4), 1),
        (nn.MaxPool2d(2), (2, 8, 4, 4), 1),
        (Last(8), (2, 4, 4, 8), -1),
        (Last(8), (2, 8, 8, 8), -1),
        (Mixed(8), (2, 8, 4, 4), 1),
        (Mixed(8), (2, 8, 8, 8), None),  # as of ConvNeXt-T's first stage, of images of 384 pixels
        (nn.Conv2d(3, 8, 1), (2, 4, 4, 8), None),  # patches whose maker moved their channels
        (Last(8), (2, 8, 4, 4), None),
        (nn.ReLU(), (2, 8, 4, 4), None),
    ],
)
def test_weights_and_modules_tell_where_features_are(layer: nn.Module, shape: Any, dim: int | None) -> None:
    assert dim_of_features(layer, Size(shape)) == dim


def test_maps_of_which_nothing_tells_are_refused_unless_it_is_said() -> None:
    student, teacher = nn.Sequential(convolutions(8), Mixed(8)), convolutions(8)
    options: dict[str, Any] = {"total_steps": 4, "layer": "1", "teacher_layer": "1", "loss": "mse"}
    with pytest.raises(HeadstartError, match=r"layer '1' gives maps of shape \(2, 8, 8, 8\), .* map_features='first'"):
        HiddenLoss(student, teacher, IMAGES, **options)
    align = HiddenLoss(student, teacher, IMAGES, map_features="first", weight=1.0, falling=False, **options)
    found = align(student(IMAGES).sum() * 0, IMAGES)
    torch.testing.assert_close(found, (student(IMAGES) - teacher(IMAGES)).square().mean())
    with pytest.raises(HeadstartError, match="map_features='middle' is unknown"):
        HiddenLoss(student, teacher, IMAGES, **{**options, "map_features": "middle"})


def test_what_was_found_holds_for_maps_of_another_size() -> None:
    features, block = Features("block"), Mixed(8)
    assert features.of(block, torch.zeros(2, 8, 4, 4)).shape == (2, 4, 4, 8)
    assert features.of(block, torch.zeros(2, 8, 8, 5)).shape == (2, 8, 5, 8)


@pytest.mark.parametrize(
    ("layer", "shape", "dim"),
    [
        (Last(8), (2, 5, 8), -1),
        (Last(8), (2, 8, 5), -1),  # as many tokens as a weight has entries, and features that no weight tells of
        (nn.Dropout(), (2, 5, 8), -1),
        (nn.Conv1d(8, 8, 1), (2, 8, 5), 1),
        (nn.Linear(3, 8), (2, 8), -1),
    ],
)
def test_tokens_have_theirs_last_and_sound_in_dimension_1(layer: nn.Module, shape: Any, dim: int) -> None:
    states = torch.randn(shape)
    assert torch.equal(Features("layer").of(layer, states), states.movedim(dim, -1))
