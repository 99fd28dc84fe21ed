"""Kinds of attention, as configurations of several versions of transformers tell them."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.init.picking.depth import layers
from headstart.init.picking.kinds import layer_kinds
from headstart.init.side import Side

FULL, WINDOW = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("told", "kinds"),
    [
        ({"layer_types": [FULL, WINDOW, FULL]}, [FULL, WINDOW, FULL]),
        ({"layer_types": [FULL, WINDOW]}, None),
        ({"model_type": "modernbert", "global_attn_every_n_layers": 3}, [FULL, WINDOW, WINDOW]),
        ({"model_type": "mistral", "sliding_window": 4}, [WINDOW] * 3),
        ({"model_type": "mistral", "sliding_window": None}, [FULL] * 3),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
            [FULL, FULL, WINDOW],
        ),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4, "max_window_layers": 2}, [FULL] * 3),
        ({"model_type": "modernbert"}, None),
        (None, None),
    ],
)
def test_what_a_configuration_tells(told: dict[str, Any] | None, kinds: list[str] | None) -> None:
    assert layer_kinds(Side({}, told, "source"), 3) == kinds


def test_without_kinds_the_stack_is_repeated_as_it_is() -> None:
    assert layers(3, 8) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert layers(3, 8, bare=True) == [0, 1, 2, 1, 2, 1, 2, 1]
    assert layers(1, 3, bare=True) == [0, 0, 0]


def test_a_kind_that_the_source_lacks_comes_from_any_layer() -> None:
    assert layers(3, 6, bare=True, kinds=(["all"] * 3, ["all", "window", "window"] * 2)) == [0, 1, 2, 1, 2, 1]


def test_layers_of_one_kind_are_strided_as_without_kinds() -> None:
    assert layers(4, 3, kinds=(["all"] * 4, ["all"] * 3)) == layers(4, 3) == [0, 2, 3]
