"""Where targets come from: one call for all sources, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from headstart.distill import LOSSES, dkd, jsd, kl, mse, reverse_kl
from headstart.distill.losses import LossFunction
from headstart.distill.targets.source import Use, as_rows, check_sparse, numbered
from headstart.distill.targets.sparse import Sampled, TopK, top_k_target
from headstart.errors import HeadstartError, TeacherError

Make = Callable[..., Tensor]
GOOD = Use(kl, temperature=4.0, standardize=False, asked=1)


class TestCheck:
    @pytest.mark.parametrize("loss", [kl, reverse_kl, jsd])
    def test_top_k_serves_divergences(self, loss: LossFunction) -> None:
        check_sparse("old", TopK, 4.0, replace(GOOD, loss=loss))

    def test_sampled_serves_forward_kl(self) -> None:
        check_sparse("old", Sampled, 4.0, GOOD)

    @pytest.mark.parametrize(
        ("form", "change", "message"),
        [
            (Sampled, {"loss": reverse_kl}, "old: sampled targets are good for loss=kl and not for reverse_kl"),
            (Sampled, {"loss": dkd}, "good for loss=kl and not for dkd; change the loss, or cache full targets"),
            (TopK, {"loss": mse}, "top-k targets are good for loss=kl or reverse_kl or jsd and not for mse"),
            (TopK, {"loss": lambda *_, **__: None}, "not for <lambda>"),
            (Sampled, {"temperature": 2.0}, r"made at temperature 4 .* set temperature=4 \(now 2\), or make"),
            (TopK, {"standardize": True}, "standardize needs all logits, not top-k targets; cache full targets"),
            (Sampled, {"asked": 3}, r"targets of 3 teachers cannot be averaged; ask one a step \(draw=1\)"),
        ],
    )
    def test_other_uses_are_refused(self, form: Any, change: dict[str, Any], message: str) -> None:
        with pytest.raises(HeadstartError, match=message):
            check_sparse("old", form, 4.0, replace(GOOD, **change))

    def test_all_losses_are_decided_on(self) -> None:
        """Whoever adds a loss decides whether it can do with sparse targets."""
        assert set(LOSSES) == {"kl", "reverse_kl", "jsd"} | {"mse", "huber", "dkd", "dist"}


class TestFitting:
    def test_dense_targets_come_as_rows(self, logits: Make) -> None:
        student, teacher = logits(2, 3, 5), logits(2, 3, 5)
        for given in (teacher, teacher.flatten(0, 1)):
            found = as_rows("given", given, student)
            assert isinstance(found, Tensor) and torch.equal(found, teacher.flatten(0, 1))

    @pytest.mark.parametrize("make", [lambda x: x, lambda x: top_k_target(x, 2, 1.0)], ids=["dense", "top-k"])
    @pytest.mark.parametrize("shape", [(3, 5), (4, 6)], ids=["rows", "classes"])
    def test_other_shapes_are_refused(self, shape: tuple[int, int], make: Any, logits: Make) -> None:
        target = make(logits(*shape))
        with pytest.raises(TeacherError, match=rf"teacher 'given' gives logits of shape \({shape[0]}, {shape[1]}\)"):
            as_rows("given", target, logits(4, 5))

    def test_rows_in_another_order_are_refused(self, logits: Make) -> None:
        with pytest.raises(TeacherError, match="the same batch"):
            as_rows("given", logits(3, 2, 5), logits(2, 3, 5))


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a", "b"], ["a", "b"]), (["a", "b", "a", "a"], ["a #1", "b", "a #2", "a #3"]), ([], [])],
)
def test_equal_names_are_numbered(names: list[str], expected: list[str]) -> None:
    assert numbered(names) == expected
