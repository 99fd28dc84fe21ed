"""Residual networks cut and grown: exact where exact is possible."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headstart.errors import InitError
from headstart.init import init_from
from headstart.tasks.images.blurpool import with_blurpool
from headstart.tasks.images.resnet import ResNet
from tests.init.models import assert_same_outputs, assert_same_weights, of, outputs, stirred

IMAGES = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def net(depth: int = 8, width: int = 4, classes: int = 5) -> ResNet:
    return ResNet(depth, classes=classes, channels=1, width=width).eval()


def source_net(depth: int = 8, width: int = 4) -> ResNet:
    model = stirred(net(depth, width))
    assert isinstance(model, ResNet)
    return model


def test_a_source_of_the_same_shape_gives_the_same_student() -> None:
    student, source = net(14), source_net(14)
    inherited = init_from(student, source, "copy")
    assert_same_weights(student, source)
    assert inherited.share == 1 and {row.what for row in inherited.tensors} == {"copied"}


@pytest.mark.parametrize("width", [8, 12, 6, 5])
def test_more_channels_keep_the_outputs(width: int) -> None:
    student, source = net(width=width), source_net()
    assert init_from(student, source, "grow").share == 1
    assert_same_outputs(student, source, IMAGES)


def test_more_blocks_than_the_source_has_begin_as_the_identity() -> None:
    student, source = net(14, 8), source_net(8, 4)
    inherited = init_from(student, source)
    assert_same_outputs(student, source, IMAGES)
    assert {row.name for row in inherited.tensors if row.what == "zeroed"} == {
        f"layer{stage}.1.bn2.{kind}" for stage in (1, 2, 3) for kind in ("weight", "bias")
    }


def test_blocks_are_strided_and_the_first_of_a_stage_is_kept() -> None:
    student, source = net(14), source_net(20)
    assert init_from(student, source).indices["layer2"] == (0, 2)
    assert torch.equal(of(student, "layer2.1.conv1.weight"), of(source, "layer2.2.conv1.weight"))
    assert torch.equal(of(student, "layer3.0.conv1.weight"), of(source, "layer3.0.conv1.weight"))


@pytest.mark.parametrize("width", [4, 6, 5])
def test_what_a_shortcut_joins_takes_the_same_channels(width: int) -> None:
    """Channels that the student keeps are those that stay when all others are made zero in the source."""
    source, student = source_net(8, 8), net(8, width)
    indices = init_from(student, source).indices
    kept = {stage: set(indices[f"stage{place}"]) for stage, place in ((1, 0), (2, 2), (3, 3))}
    for stage, channels in kept.items():
        silence(source, f"layer{stage}.0.bn2", channels)
        silence(source, f"layer{stage}.0.bn1", set(indices[f"inner{stage}"]))
    silence(source, "bn1", kept[1])
    init_from(student, source)
    assert_same_outputs(student, source, IMAGES)


def silence(model: nn.Module, norm: str, kept: set[int]) -> None:
    """Make all other channels zero."""
    gone = [channel for channel in range(len(of(model, f"{norm}.weight"))) if channel not in kept]
    of(model, f"{norm}.weight")[gone] = 0
    of(model, f"{norm}.bias")[gone] = 0


def permuted(source: ResNet, block: str, order: torch.Tensor) -> None:
    """Put the channels inside a block into another order: the network stays the same."""
    for name, tensor in source.state_dict().items():
        if name.startswith((f"{block}.conv1", f"{block}.bn1")) and tensor.dim():
            tensor.copy_(tensor[order])
    of(source, f"{block}.conv2.weight").copy_(of(source, f"{block}.conv2.weight")[:, order])


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(16)), st.integers(1, 7))
def test_the_cut_of_a_permuted_source_is_the_permuted_selection(order: list[int], width: int) -> None:
    torch.manual_seed(0)
    source, student = source_net(8, 8), net(8, width)
    before = of(source, "layer2.0.conv1.weight").clone()
    permuted(source, "layer2.0", torch.tensor(order))
    indices = init_from(student, source).indices
    inner = torch.tensor(order)[list(indices["inner2"])]
    assert torch.equal(of(student, "layer2.0.conv1.weight"), before[inner][:, list(indices["stage0"])])


def test_activations_choose_the_channels_that_give_most() -> None:
    source, student = source_net(8, 8), net(8, 4)
    silence(source, "layer2.0.bn1", set(range(8, 16)))
    of(source, "layer2.0.bn1.bias")[8:] = 3  # past the ReLU
    inherited = init_from(student, source, scores="activation", batches=[IMAGES])
    assert inherited.indices["inner2"] == tuple(range(8, 16))


def test_statistics_are_taken_anew_from_the_batches() -> None:
    source, student = source_net(14, 8), net(8, 4).train()
    inherited = init_from(student, source, batches=[IMAGES, (IMAGES + 1, None)])
    seen = torch.cat(
        [nn.functional.conv2d(images, of(student, "conv1.weight"), padding=1) for images in (IMAGES, IMAGES + 1)]
    )
    assert torch.allclose(of(student, "bn1.running_mean"), seen.mean((0, 2, 3)), atol=1e-6)
    assert student.training and student.bn1.momentum == 0.1
    assert inherited.notes == ("BatchNorm: statistics taken anew from the batches",)
    assert "give batches" in init_from(net(8, 4), source).notes[0]


def test_a_blurred_student_takes_the_same_weights() -> None:
    student, source = with_blurpool(net(8, 16)), with_blurpool(source_net(8, 16))
    init_from(student, source)
    assert_same_outputs(student, source, IMAGES)


def test_classes_are_matched_by_rows_and_new_ones_stay_fresh() -> None:
    source, student = source_net(), net(classes=3)
    fresh = of(student, "linear.weight").clone()
    inherited = init_from(student, source, rows={"classes": torch.tensor([4, -1, 0])})
    assert torch.equal(of(student, "linear.weight")[[0, 2]], of(source, "linear.weight")[[4, 0]])
    assert torch.equal(of(student, "linear.weight")[1], fresh[1])
    row = next(row for row in inherited.tensors if row.name == "linear.weight")
    assert (row.what, row.reason) == ("matched", "1 rows stay fresh") and inherited.share < 1


def test_other_classes_stay_fresh_without_rows() -> None:
    source, student = source_net(), net(classes=3)
    fresh = of(student, "linear.weight").clone()
    init_from(student, source)
    assert torch.equal(of(student, "linear.weight"), fresh)


def test_the_source_stays_as_it_is() -> None:
    source = source_net(14, 8)
    before, mine = {name: value.clone() for name, value in source.state_dict().items()}, outputs(source, IMAGES)
    init_from(net(), source, scores="activation", batches=[IMAGES])
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
    assert torch.equal(outputs(source, IMAGES), mine)


def test_copy_shrinks_and_perturbs_the_parameters_alone() -> None:
    student, source = net(), source_net()
    fresh = of(student, "conv1.weight").clone()
    init_from(student, source, "copy", shrink=0.4, perturb=0.1)
    assert torch.allclose(of(student, "conv1.weight"), 0.4 * of(source, "conv1.weight") + 0.1 * fresh)
    assert torch.equal(of(student, "bn1.running_mean"), of(source, "bn1.running_mean"))


@pytest.mark.parametrize(
    ("how", "width", "depth", "said"),
    [
        ("copy", 8, 8, "takes a source of the same shape, but stage0 is 8 in the source and 4 in the student"),
        ("grow", 8, 8, "takes a smaller source, but stage0 is 8"),
        ("select", 2, 8, "takes a larger source, but stage0 is 2"),
        ("select", 4, 8, "the number of layer1 is 1 in the source and 2 in the student"),
    ],
)
def test_a_source_that_the_way_does_not_take_is_refused(how: str, width: int, depth: int, said: str) -> None:
    student = net(14 if said.startswith("the number") else 8)
    before = of(student, "conv1.weight").clone()
    with pytest.raises(InitError, match=said):
        init_from(student, source_net(depth, width), how)
    assert torch.equal(of(student, "conv1.weight"), before)
