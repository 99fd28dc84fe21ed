"""Sparse targets: exact where they can be, unbiased where they are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor

from headstart.distill import kl
from headstart.distill.fused import sparse_loss
from headstart.distill.losses import LossFunction
from headstart.distill.targets.sparse import TopK, others_as_one, sampled_target, top_k_target

Make = Callable[..., Tensor]
TEMPERATURES = [0.5, 1.0, 4.0]


def gradient(values: Tensor, leaf: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(values.sum(), leaf)
    return found


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_others_as_one_has_the_sum_of_their_probabilities(temperature: float, logits: Make) -> None:
    given, indices = logits(6, 9), torch.tensor([[3, 0, 8]] * 6)
    p = (given / temperature).softmax(-1)
    expected = torch.cat([p[:, [3, 0, 8]], p[:, [1, 2, 4, 5, 6, 7]].sum(-1, keepdim=True)], dim=-1)
    torch.testing.assert_close((others_as_one(given, indices, temperature) / temperature).softmax(-1), expected)


class TestTopK:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_is_the_divergence_of_k_classes_and_the_rest(self, temperature: float, logits: Make) -> None:
        student, teacher = logits(5, 12), logits(5, 12)
        found = top_k_target(teacher, 4, temperature).values(student, kl)
        for row in range(5):
            p, q = ((x[row] / temperature).softmax(-1).numpy() for x in (teacher, student))
            top = np.argsort(p)[-4:]
            coarse = [np.append(x[top], 1.0 - x[top].sum()) for x in (p, q)]
            assert found[row].item() == pytest.approx(temperature**2 * rel_entr(*coarse).sum(), rel=1e-9)

    @pytest.mark.parametrize("loss", TopK.losses, ids=lambda loss: loss.__name__)
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_all_but_one_class_is_all_classes(self, loss: LossFunction, temperature: float, logits: Make) -> None:
        student, teacher = logits(5, 7).requires_grad_(), logits(5, 7)
        found = top_k_target(teacher, 6, temperature).values(student, loss)
        expected = loss(student, teacher, temperature=temperature, labels=None)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradient(found, student), gradient(expected, student))

    @pytest.mark.parametrize("loss", TopK.losses, ids=lambda loss: loss.__name__)
    def test_is_never_more_than_over_all_classes(self, loss: LossFunction, logits: Make) -> None:
        student, teacher = logits(200, 12), logits(200, 12)
        found = top_k_target(teacher, 4, 2.0).values(student, loss)
        assert bool((found <= loss(student, teacher, temperature=2.0, labels=None) + 1e-12).all())
        assert bool((found >= 0).all())

    def test_is_zero_for_the_teachers_probabilities_of_the_k_classes(self, logits: Make) -> None:
        teacher = logits(5, 12).sort(descending=True).values
        p = teacher.softmax(-1)
        others = torch.rand(5, 9, dtype=torch.float64).softmax(-1) * p[:, 3:].sum(-1, keepdim=True)
        student = torch.cat([p[:, :3], others], dim=-1).log().requires_grad_()
        values = top_k_target(teacher, 3, 1.0).values(student, kl)
        torch.testing.assert_close(values, torch.zeros_like(values))
        torch.testing.assert_close(gradient(values, student), torch.zeros_like(student))

    def test_gradient_is_that_of_the_value(self, logits: Make) -> None:
        target = top_k_target(logits(3, 8), 3, 2.0)
        assert torch.autograd.gradcheck(lambda x: target.values(x, kl), logits(3, 8).requires_grad_())

    @pytest.mark.parametrize("scale", [1e3, 1e6])
    def test_extreme_logits_stay_finite(self, scale: float) -> None:
        teacher, student = torch.eye(3, 6) * scale, torch.eye(3, 6).flip(-1).mul(scale).requires_grad_()
        values = top_k_target(teacher, 2, 1.0).values(student, kl)
        assert bool(values.isfinite().all()) and bool(gradient(values, student).isfinite().all())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_is_computed_in_at_least_float32(self, dtype: torch.dtype, logits: Make) -> None:
        target = top_k_target(logits(2, 6).to(dtype), 2, 1.0)
        assert target.values(logits(2, 6).to(dtype), kl).dtype == torch.promote_types(dtype, torch.float32)


def all_offsets(rows: int, steps: int) -> Tensor:
    """Every offset that matters where probabilities are multiples of 1 / (draws * steps)."""
    return (torch.arange(rows, dtype=torch.float64) + 0.5) / steps


class TestSampled:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("draws", [1, 3, 8])
    def test_mean_over_all_draws_is_kl_in_value_and_gradient(
        self, draws: int, temperature: float, logits: Make
    ) -> None:
        """Exactly: the draw is a function of one number, and constant between multiples of 1 / 24."""
        p = torch.tensor([9, 0, 1, 6, 5, 3], dtype=torch.float64) / 24
        teacher = temperature * p.log().clamp(min=-1e4)
        student = logits(1, 6).requires_grad_()
        target = sampled_target(teacher.expand(24, -1), draws, temperature, all_offsets(24, 24))
        found = target.values(student.expand(24, -1), kl).mean()
        expected = kl(student, teacher.unsqueeze(0), temperature=temperature).sum()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradient(found, student), gradient(expected, student))

    def test_gradient_is_unbiased(self, logits: Make) -> None:
        """Statistically, on any probabilities: no component is off by more than chance allows."""
        trials, draws, temperature = 4000, 5, 2.0
        teacher, student = logits(1, 20), logits(1, 20).expand(trials, -1).clone().requires_grad_()
        offsets = torch.rand(trials, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        target = sampled_target(teacher.expand(trials, -1), draws, temperature, offsets)
        found = gradient(target.values(student, kl), student)
        expected = gradient(kl(student, teacher.expand(trials, -1), temperature=temperature), student)[0]
        error = found.std(0) / math.sqrt(trials)
        assert bool(((found.mean(0) - expected).abs() <= 4.5 * error + 1e-12).all())

    def test_every_class_is_drawn_as_often_as_is_due_to_within_one(self, logits: Make) -> None:
        teacher, draws = logits(300, 15), 12
        offsets = torch.rand(300, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        indices = sampled_target(teacher, draws, 1.0, offsets).indices
        counts = torch.zeros(300, 15, dtype=torch.float64).scatter_add(1, indices, torch.ones_like(teacher[:, :draws]))
        due = draws * teacher.softmax(-1)
        assert bool(((counts - due).abs() < 1.0 + 1e-9).all())
        independent = (due * (1.0 - due / draws)).sum()  # the variance that independent draws would have
        assert (counts - due).square().sum() < independent

    @pytest.mark.parametrize("offset", [0.0, 0.5, 1.0 - 2.0**-53])
    def test_what_has_no_probability_is_never_drawn(self, offset: float) -> None:
        teacher = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
        indices = sampled_target(teacher, 16, 1.0, torch.tensor([offset], dtype=torch.float64)).indices
        assert set(indices.flatten().tolist()) == {1, 3}

    def test_many_classes_keep_their_odds(self) -> None:
        """30 000 equal classes and 30 000 draws: one each. In float32 the sums would be off by more than that."""
        target = sampled_target(torch.zeros(1, 30_000), 30_000, 1.0, torch.tensor([0.5], dtype=torch.float64))
        assert torch.equal(target.indices[0], torch.arange(30_000))

    def test_gradient_is_that_of_the_value(self, logits: Make) -> None:
        target = sampled_target(logits(3, 8), 4, 2.0, torch.full((3,), 0.3, dtype=torch.float64))
        assert torch.autograd.gradcheck(lambda x: target.values(x, kl), logits(3, 8).requires_grad_())


class TestMean:
    @pytest.fixture
    def target(self, logits: Make) -> TopK:
        return top_k_target(logits(4, 8), 3, 2.0)

    def test_is_over_the_rows_that_count(self, target: TopK, logits: Make) -> None:
        student, keep = logits(4, 8), torch.tensor([True, False, True, True])
        values = target.values(student, kl)
        everything = torch.ones((), dtype=torch.bool)
        torch.testing.assert_close(sparse_loss(target, student, kl, keep=everything), values.mean())
        torch.testing.assert_close(sparse_loss(target, student, kl, keep=keep), values[keep].mean())
        torch.testing.assert_close(sparse_loss(target, student, kl, keep=keep, num_items=6), values[keep].sum() / 6)

    def test_is_zero_where_none_counts(self, target: TopK, logits: Make) -> None:
        student = logits(4, 8).requires_grad_()
        loss = sparse_loss(target, student, kl, keep=torch.zeros(4, dtype=torch.bool))
        assert loss.item() == 0.0
        assert torch.equal(gradient(loss, student), torch.zeros_like(student))
