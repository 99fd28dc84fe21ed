"""A batch's inputs changed into what a teacher was trained on."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.distill.inputs import each_tensor, first_tensor, renormalise, resize
from headstart.errors import TeacherError

RAW = torch.rand(4, 3, 8, 8, dtype=torch.float64)
OURS, THEIRS = ((0.1, 0.3, 0.5), (0.5, 0.3, 0.7)), ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def normalised(by: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in by)
    return (RAW - mean) / std


def test_renormalising_is_normalising_the_raw_images_otherwise() -> None:
    prepare = renormalise(OURS, THEIRS)
    assert prepare is not None
    torch.testing.assert_close(prepare(normalised(OURS)), normalised(THEIRS), rtol=1e-5, atol=1e-5)


def test_it_changes_images_wherever_they_are_and_nothing_else() -> None:
    prepare = renormalise(OURS, THEIRS)
    images, mask = normalised(OURS), torch.ones(4, 3)
    assert prepare is not None
    changed = prepare({"pixel_values": images, "mask": mask, "ids": torch.ones(2, 3, 4, 5).long(), "flag": True})
    assert torch.equal(changed["pixel_values"], prepare(images))
    assert changed["mask"] is mask and changed["flag"] is True and int(changed["ids"].sum()) == 120


@pytest.mark.parametrize("place", [1, 2], ids=["channels first", "frames first"])
def test_videos_are_renormalised_frame_by_frame(place: int) -> None:
    prepare = renormalise(OURS, THEIRS)
    assert prepare is not None
    frames = [normalised(OURS), normalised(OURS) + 1]
    changed = prepare(torch.stack(frames, dim=3 - place))
    torch.testing.assert_close(changed, torch.stack([prepare(frame) for frame in frames], dim=3 - place))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "the batch has none: floats"),
        (torch.zeros(2, 8, 8, 3), "none may be that of the 3 channels"),
        (torch.zeros(2, 3, 3, 8, 8), "more than one dimension may be that of the 3 channels"),
    ],
)
def test_images_that_cannot_be_renormalised_are_refused(batch: Tensor, message: str) -> None:
    prepare = renormalise(OURS, THEIRS)
    assert prepare is not None
    with pytest.raises(TeacherError, match=message):
        prepare(batch)


def test_equal_normalisations_need_nothing() -> None:
    assert renormalise(OURS, OURS) is None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (((0.5,), (0.2,)), "takes images of 1 channels, the student's have 3"),
        (((0.5, 0.5, 0.5), (0.2,)), "one mean and one std for each channel"),
        (((0.5, 0.5, 0.5), (0.2, 0.0, 0.2)), "std must be positive for each channel"),
    ],
)
def test_normalisations_that_do_not_go_together(wanted: Any, message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        renormalise(OURS, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_resizing_is_antialiased_and_keeps_the_dtype(dtype: torch.dtype) -> None:
    images = RAW.to(dtype)
    halved = resize(images, (4, 4))
    assert halved.shape == (4, 3, 4, 4) and halved.dtype == dtype
    # Away from the border, halving with a triangle of width two weighs 1, 3, 3, 1 eighths in each direction.
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    expected = F.conv2d(RAW.flatten(0, 1).unsqueeze(1), torch.outer(kernel, kernel)[None, None], stride=2, padding=1)
    expected = expected.view(4, 3, 4, 4)[..., 1:-1, 1:-1]
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(halved[..., 1:-1, 1:-1].double(), expected, rtol=tolerance, atol=tolerance)


def test_images_of_the_right_size_are_taken_as_they_are() -> None:
    assert resize(RAW, (8, 8)) is RAW


def test_tensors_are_found_in_whatever_holds_them() -> None:
    one, two = torch.ones(1), torch.ones(2)
    for inputs in (one, (one, two), {"a": "text", "b": one}, ("text", one)):
        assert first_tensor(inputs) is one
    assert first_tensor("text") is None and first_tensor({}) is None
    assert each_tensor(lambda tensor: tensor + 1, ({"a": one}, "text"))[0]["a"].tolist() == [2.0]


@dataclass(frozen=True)
class Views:
    """Several crops of images, and what they are."""

    crops: list[Tensor]
    kind: str = "global"


Pair = namedtuple("Pair", ["left", "right"])


def test_containers_keep_their_kinds() -> None:
    video, crops = torch.ones(2, 3, 4, 5, 5), [torch.ones(2, 3, 8, 8), torch.ones(2, 3, 4, 4)]
    inputs: dict[str, Any] = {
        "video": video,
        "views": Views(crops),
        "pair": Pair(None, (torch.ones(2), 3)),
        "more": UserDict(x=crops[0]),
    }
    changed = each_tensor(lambda tensor: tensor[:1], inputs)
    assert changed["video"].shape == (1, 3, 4, 5, 5)
    assert [crop.shape for crop in changed["views"].crops] == [(1, 3, 8, 8), (1, 3, 4, 4)]
    assert changed["views"].kind == "global" and changed["pair"].left is None and changed["pair"].right[1] == 3
    assert len(changed["pair"].right[0]) == 1 and isinstance(changed["more"], UserDict)
    assert len(changed["more"]["x"]) == 1 and len(inputs["more"]["x"]) == 2
    assert [len(crop) for crop in inputs["views"].crops] == [2, 2]
    assert isinstance(each_tensor(torch.clone, OrderedDict(a=video)), OrderedDict)


def test_the_first_tensor_is_found_in_any_nest() -> None:
    one = torch.ones(1)
    for inputs in ([one], {"a": None, "b": [("text", one)]}, Views([one]), UserDict(a=one)):
        assert first_tensor(inputs) is one
