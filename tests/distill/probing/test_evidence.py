"""What the labels alone tell, row by row; what is not finite; classes in another order."""

from __future__ import annotations

import math

import pytest
import torch

from headstart.distill.probing.evidence import Evidence, joined


def test_frequencies_of_the_other_rows() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 0, 1, 0])
    found = Evidence("classes", torch.zeros(8, 4), labels).by_chance()
    best = math.inf
    for prior in (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e4):
        losses = []
        for row, label in enumerate(labels.tolist()):
            others = labels[torch.arange(8) != row].tolist()
            losses.append(-math.log((others.count(label) + prior) / (7 + 4 * prior)))
        best = min(best, sum(losses) / 8)
    assert float(found.mean()) == pytest.approx(best, rel=1e-12)


def test_rare_classes_do_not_look_easy() -> None:
    """Each class once: by frequencies with the row itself the loss would be log 50, and nothing tells 50 of 1000."""
    labels = torch.arange(50)
    chance = Evidence("classes", torch.zeros(50, 1000), labels).by_chance()
    assert float(chance.mean()) > math.log(500)


def test_mixtures_are_counted_like_their_parts() -> None:
    labels = torch.tensor([0, 1, 1, 2])
    indices, shares = (
        Evidence("classes", torch.zeros(4, 3), labels),
        Evidence("classes", torch.zeros(4, 3), torch.eye(3)[labels]),
    )
    torch.testing.assert_close(indices.by_chance(), shares.by_chance())
    torch.testing.assert_close(indices.losses(2.0), shares.losses(2.0))


def test_values_by_the_mean_of_the_others() -> None:
    labels, counted = torch.tensor([[1.0], [2.0], [6.0], [9.0]]), torch.tensor([[True], [True], [True], [False]])
    found = Evidence("values", torch.zeros(4, 1), labels, counted).by_chance()
    torch.testing.assert_close(
        found, torch.tensor([(1 - 4.0) ** 2, (2 - 3.5) ** 2, (6 - 1.5) ** 2], dtype=torch.float64)
    )


def test_labels_by_their_column() -> None:
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    found = Evidence("labels", torch.zeros(5, 2), labels, torch.ones(5, 2, dtype=torch.bool)).by_chance()
    frequent, rare = found.view(5, 2)[:4, 0].mean(), found.view(5, 2)[4, 0]
    assert frequent < math.log(2) < rare


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_told_and_left_out(bad: float) -> None:
    logits = torch.tensor([[0.0, 1.0], [bad, 1.0], [2.0, 0.0]])
    of_rows, count = Evidence("classes", logits, torch.tensor([1, 0, 0])).finite()
    assert (count, of_rows.logits.tolist(), of_rows.labels.tolist()) == (1, [[0.0, 1.0], [2.0, 0.0]], [1, 0])
    everything = torch.ones(3, 2, dtype=torch.bool)
    of_outputs, count = Evidence("values", logits, torch.zeros(3, 2), everything).finite()
    assert (count, of_outputs.count, of_outputs.losses().tolist()) == (1, 5, [0.0, 1.0, 1.0, 4.0, 0.0])


def test_renamed_classes_need_rows_to_tell() -> None:
    labels = torch.arange(40) % 4
    turned = torch.eye(4)[(labels + 1) % 4]
    assert Evidence("classes", turned, labels).renamed() == 1.0
    assert Evidence("classes", turned[:39], labels[:39]).renamed() is None


def test_batches_together() -> None:
    parts = [Evidence("values", torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([[True], [False]])) for _ in range(3)]
    assert joined(parts).count == 3
