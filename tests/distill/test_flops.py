"""FLOPs against torch's own counter and by hand; unknown operators; models that are not touched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from headstart.distill.flops import count_flops, forward_flops, step_flops
from headstart.errors import HeadstartError
from headstart.tasks.images.resnet import ResNet

BATCH, HEIGHT, WIDTH = 3, 10, 6
CONVOLUTION = 2 * BATCH * HEIGHT * WIDTH * 5 * 4 * 3 * 3


@pytest.fixture
def model() -> ResNet:
    return ResNet(8, classes=10, channels=1, width=4)


def counted_by_torch(model: nn.Module, inputs: Tensor, *, backward: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        output = model(inputs)
        if backward:
            output.sum().backward()
    return int(counter.get_total_flops())


def test_a_step_costs_what_torch_counts_on_real_tensors(model: ResNet) -> None:
    inputs = torch.randn(4, 1, 12, 12)
    assert step_flops(model, inputs) == counted_by_torch(copy.deepcopy(model), inputs, backward=True)


def test_a_forward_costs_what_torch_counts_on_real_tensors(model: ResNet) -> None:
    inputs = torch.randn(4, 1, 12, 12)
    assert forward_flops(model, inputs) == counted_by_torch(copy.deepcopy(model).eval(), inputs, backward=False)


def test_one_convolution_by_hand() -> None:
    convolution, inputs = nn.Conv2d(4, 5, 3, padding=1), torch.randn(BATCH, 4, HEIGHT, WIDTH)
    assert forward_flops(convolution, inputs) == CONVOLUTION
    # Backward, the first layer needs the gradient of its weights and not that of its inputs.
    assert step_flops(convolution, inputs) == 2 * CONVOLUTION


def test_a_second_layer_also_passes_the_gradient_on() -> None:
    layers, inputs = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 2)), torch.randn(BATCH, 6)
    first, second = 2 * BATCH * 6 * 7, 2 * BATCH * 7 * 2
    assert forward_flops(layers, inputs) == first + second
    assert step_flops(layers, inputs) == 2 * first + 3 * second


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_in_groups_by_hand(groups: int) -> None:
    """Each output takes its own group's channels only, forward and backward (torch's formula forgets that backward)."""
    layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 3, padding=1, groups=groups))
    inputs = torch.randn(BATCH, 4, HEIGHT, WIDTH)
    first, second = 2 * BATCH * HEIGHT * WIDTH * 4 * 4, 2 * BATCH * HEIGHT * WIDTH * 8 * (4 // groups) * 9
    assert forward_flops(layers, inputs) == first + second
    assert step_flops(layers, inputs) == 2 * first + 3 * second


def test_a_transposed_convolution_by_hand() -> None:
    convolution, inputs = nn.ConvTranspose2d(4, 5, 2, stride=2), torch.randn(BATCH, 4, HEIGHT, WIDTH)
    forward = 2 * BATCH * HEIGHT * WIDTH * 4 * 5 * 2 * 2
    assert forward_flops(convolution, inputs) == forward
    assert step_flops(convolution, inputs) == 2 * forward


@pytest.mark.parametrize(
    "part",
    [
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Dropout()),
        nn.Sequential(nn.Linear(8, 8), nn.Hardswish(), nn.SiLU(), nn.ReLU6(), nn.PReLU(), nn.GLU()),
    ],
    ids=["attention", "norm", "activations"],
)
def test_the_parts_of_larger_models_are_known(part: nn.Module) -> None:
    inputs = torch.randn(2, 5, 8)
    assert step_flops(part, inputs) == counted_by_torch(copy.deepcopy(part), inputs, backward=True)


def test_an_operator_without_known_flops_is_named() -> None:
    with pytest.raises(HeadstartError, match=r"nothing is known about the operator aten\.sort.*register_flop_formula"):
        count_flops(lambda: torch.randn(3, device="meta").sort())


def test_the_model_is_not_touched(model: ResNet) -> None:
    model.train()
    before = copy.deepcopy(model.state_dict())
    step_flops(model, torch.randn(4, 1, 12, 12))
    forward_flops(model, torch.randn(4, 1, 12, 12))
    after = model.state_dict()
    assert model.training
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_no_random_numbers_are_used() -> None:
    layers = nn.Sequential(nn.Linear(8, 8), nn.Dropout())
    before = torch.get_rng_state()
    step_flops(layers, torch.zeros(2, 8))
    assert torch.equal(torch.get_rng_state(), before)
