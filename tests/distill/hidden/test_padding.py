"""What is padding in a batch, by the mask that belongs to the layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Size, nn

from headstart.distill.hidden.padding import Padding

MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])
OTHER = torch.tensor([[0, 1, 1], [1, 1, 1]])


def student(*, two_sides: bool) -> nn.Module:
    made: Any = nn.Identity()
    made.config = SimpleNamespace(is_encoder_decoder=two_sides)
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layer", "two_sides", "mask"),
    [
        ("model.encoder.layers.0", True, MASK),
        ("model.decoder.layers.0", True, OTHER),
        ("model.decoder.layers.0", False, MASK),  # as OPT names the layers of its only side
        ("blocks.0", False, MASK),
    ],
)
def test_each_side_has_a_mask_of_its_own(layer: str, two_sides: bool, mask: torch.Tensor) -> None:
    padding = Padding(student(two_sides=two_sides), layer)
    inputs = {"attention_mask": MASK, "decoder_attention_mask": OTHER}
    found = padding.real(inputs, Size((2, 3)))
    assert found is not None and torch.equal(found, mask.bool()) and padding.size(inputs) == mask.sum()


def test_states_of_another_shape_have_no_padding_and_weigh_by_the_inputs() -> None:
    padding = Padding(student(two_sides=False), "blocks.0")
    inputs = {"labels": torch.zeros(2), "input_ids": torch.zeros(2, 3), "attention_mask": MASK}
    assert padding.size(inputs) == 3
    assert padding.real(inputs, Size((3, 2))) is None  # tokens before the batch
    assert padding.size(inputs) == 6


def test_without_a_mask_and_without_names_all_count() -> None:
    padding = Padding(student(two_sides=False), "blocks.0")
    for inputs in (torch.zeros(2, 3), [torch.zeros(2, 3), torch.zeros(2)], {"pixels": torch.zeros(2, 3)}):
        assert padding.real(inputs, Size((2, 3))) is None and padding.size(inputs) == 6
    assert padding.size({"text": "two words"}) == padding.size("two words") == 1
    assert Padding(student(two_sides=True), "decoder.0").size({"input_ids": MASK, "labels": MASK[:, :2]}) == 4
