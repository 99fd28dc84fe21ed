"""What is refused when a Distiller is made: losses and options that mean nothing for its head."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from headstart.distill import Distiller, kl, mse
from headstart.distill.heads.head import LOSSES_OF, loss_of
from headstart.errors import HeadstartError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "tags"}, r"head='tags' is unknown; choose one of 'classes' \(one class of many"),
        ({"head": "values"}, r"loss='kl' means nothing for head='values' \(numbers.*set loss to one of mse, huber"),
        (
            {"head": "labels", "loss": "dkd"},
            "loss='dkd' means nothing for head='labels'.*kl, reverse_kl, jsd, mse, huber",
        ),
        ({"head": "labels", "loss": "dist"}, "loss='dist' means nothing for head='labels'"),
        ({"head": "values", "loss": kl}, "loss='kl' means nothing for head='values'"),
        ({"head": "values", "loss": "mse", "average": "probability"}, "average='probability' means nothing"),
        ({"head": "labels", "standardize": True}, "standardize means nothing for head='labels'"),
        ({"class_dim": 0}, "class_dim=0 is the batch's dimension"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadstartError, match=message):
        Distiller(nn.Linear(2, 3), total_steps=10, **options)


def test_a_function_of_ours_counts_as_its_name() -> None:
    assert loss_of("labels", kl) is LOSSES_OF["labels"]["kl"]
    assert loss_of("classes", mse).average == "logit"
