"""The losses against closed forms in scipy and numpy, their gradients against numerical ones and fp64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats
from scipy.spatial import distance
from torch import Tensor
from torch.nn import functional as F

from headstart.distill import LOSSES, dist, dkd, jsd, kl, mse, reverse_kl, standardized
from headstart.errors import HeadstartError

Array = NDArray[np.float64]
Make = Callable[..., Tensor]

ROWS, CLASSES = 6, 5
LABELS = torch.tensor([0, 1, 2, 3, 4, 2])
NAMES = sorted(LOSSES)


def _probabilities(logits: Tensor, temperature: float) -> Array:
    result: Array = special.softmax(logits.numpy() / temperature, axis=-1)
    return result


def _dkd(p: Array, q: Array, alpha: float = 1.0, beta: float = 8.0) -> Array:
    """With both distributions written out: label or not, and among the others."""
    values = []
    for row, label in enumerate(LABELS.tolist()):
        a, b = p[row], q[row]
        target = special.rel_entr([a[label], 1 - a[label]], [b[label], 1 - b[label]]).sum()
        others_a, others_b = np.delete(a, label), np.delete(b, label)
        others = special.rel_entr(others_a / others_a.sum(), others_b / others_b.sum()).sum()
        values.append(alpha * target + beta * others)
    return np.array(values)


def _dist(p: Array, q: Array) -> Array:
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)]
    columns = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    result: Array = np.array(rows) + np.mean(columns)
    return result


OF_PROBABILITIES: dict[str, Callable[[Array, Array], Array]] = {
    "kl": lambda p, q: special.rel_entr(p, q).sum(-1),
    "reverse_kl": lambda p, q: special.rel_entr(q, p).sum(-1),
    "jsd": lambda p, q: distance.jensenshannon(p, q, axis=-1) ** 2,
    "dkd": _dkd,
    "dist": _dist,
}


def _closed_form(name: str, student: Tensor, teacher: Tensor, temperature: float) -> Array:
    if name == "huber":
        return np.mean(special.huber(1.0, student.numpy() - teacher.numpy()), axis=-1)  # type: ignore[no-any-return]
    if name == "mse":
        result: Array = np.mean((student.numpy() - teacher.numpy()) ** 2, axis=-1)
        return result
    p, q = _probabilities(teacher, temperature), _probabilities(student, temperature)
    return temperature**2 * OF_PROBABILITIES[name](p, q)


def _loss(name: str, temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(LOSSES[name].function, temperature=temperature, labels=LABELS)


def _gradient(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> Tensor:
    leaf = student.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, teacher).sum(), leaf)
    return gradient


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", NAMES)
class TestAll:
    def test_closed_form(self, name: str, temperature: float, logits: Make) -> None:
        student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
        values = _loss(name, temperature)(student, teacher)
        assert values.dtype == torch.float64
        np.testing.assert_allclose(values.numpy(), _closed_form(name, student, teacher, temperature), rtol=1e-10)

    def test_gradient_is_the_numerical_one(self, name: str, temperature: float, logits: Make) -> None:
        student, teacher = logits(ROWS, CLASSES).requires_grad_(), logits(ROWS, CLASSES)
        assert torch.autograd.gradcheck(_loss(name, temperature), (student, teacher))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_fp32(
        self, name: str, temperature: float, dtype: torch.dtype, logits: Make
    ) -> None:
        student, teacher = logits(ROWS, CLASSES).to(dtype), logits(ROWS, CLASSES).to(dtype)
        loss = _loss(name, temperature)
        values = loss(student, teacher)
        assert values.dtype == torch.float32
        exact = loss(student.double(), teacher.double())
        torch.testing.assert_close(values.double(), exact, rtol=2e-5, atol=2e-6)
        gradient = _gradient(loss, student, teacher)
        assert gradient.dtype == dtype
        # Rounded once, at the very end, to what the inputs' dtype can hold.
        resolution = torch.finfo(dtype).eps
        exact = _gradient(loss, student.double(), teacher.double())
        torch.testing.assert_close(gradient.double(), exact, rtol=2 * resolution + 2e-5, atol=5e-6)

    def test_nothing_to_learn_from_an_equal_teacher(self, name: str, temperature: float, logits: Make) -> None:
        teacher = logits(ROWS, CLASSES)
        loss = _loss(name, temperature)
        torch.testing.assert_close(loss(teacher, teacher), torch.zeros(ROWS, dtype=torch.float64), atol=1e-12, rtol=0)
        gradient = _gradient(loss, teacher, teacher)
        torch.testing.assert_close(gradient, torch.zeros_like(teacher), atol=1e-7 if name == "dist" else 1e-12, rtol=0)

    def test_extreme_logits_stay_finite(self, name: str, temperature: float) -> None:
        """A margin of 400 rounds all but one probability to 0 in fp32 at these temperatures."""
        student, teacher = 400.0 * torch.eye(CLASSES), 400.0 * torch.eye(CLASSES).roll(1, 0)
        labels = torch.arange(CLASSES)
        for one, other in [(student, teacher), (student, student), (0 * student, teacher), (student, 0 * teacher)]:
            loss = partial(LOSSES[name].function, temperature=temperature, labels=labels)
            assert loss(one, other).isfinite().all()
            assert _gradient(loss, one, other).isfinite().all()


ANALYTIC: dict[str, Callable[[Array, Array], Array]] = {
    "kl": lambda p, q: q - p,
    "reverse_kl": lambda p, q: q * (np.log(q / p) - (q * np.log(q / p)).sum(-1, keepdims=True)),
}


@pytest.mark.parametrize("name", sorted(ANALYTIC))
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_on_paper(name: str, temperature: float, logits: Make) -> None:
    """T^2 times the 1/T of the inner derivative."""
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    p, q = _probabilities(teacher, temperature), _probabilities(student, temperature)
    gradient = _gradient(_loss(name, temperature), student, teacher)
    np.testing.assert_allclose(gradient.numpy(), temperature * ANALYTIC[name](p, q), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("log_target", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_is_torchs_with_batchmean(log_target: bool, temperature: float, logits: Make) -> None:
    """Torch takes the student's log-probabilities first: `kl_div(q, p)` is KL(p || q). Swapped, it is the reverse."""
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    for loss, (first, second) in [(kl, (student, teacher)), (reverse_kl, (teacher, student))]:
        log_q, log_p = (F.log_softmax(side / temperature, -1) for side in (first, second))
        target = log_p if log_target else log_p.exp()
        expected = temperature**2 * F.kl_div(log_q, target, reduction="batchmean", log_target=log_target)
        torch.testing.assert_close(loss(student, teacher, temperature=temperature).mean(), expected)


def test_mse_is_torchs(logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    torch.testing.assert_close(mse(student, teacher).mean(), F.mse_loss(student, teacher))


def test_hot_kl_is_half_the_mse_of_centred_logits(logits: Make) -> None:
    """KL = sum_c d_c^2 / (2 C T^2) + O(T^-3), where d is the difference of the centred logits."""
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    centred = [side - side.mean(-1, keepdim=True) for side in (student, teacher)]
    half_mse = 0.5 * mse(*centred)
    for loss in (kl, reverse_kl):
        errors = [(loss(student, teacher, temperature=t) - half_mse).abs().max().item() for t in (1e2, 1e3, 1e4)]
        np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 10, rtol=0.1)  # falls as 1 / T
        gradient = _gradient(partial(loss, temperature=1e4), student, teacher)
        torch.testing.assert_close(gradient, (centred[0] - centred[1]) / CLASSES, rtol=0, atol=1e-2)
    assert (kl(student, teacher, temperature=1e4) - 0.5 * mse(student, teacher)).abs().max() > 0.01


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_generalised_jsd(beta: float, logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    p, q = _probabilities(teacher, 2.0), _probabilities(student, 2.0)
    m = beta * p + (1 - beta) * q
    expected = 4 * (beta * special.rel_entr(p, m) + (1 - beta) * special.rel_entr(q, m)).sum(-1)
    np.testing.assert_allclose(jsd(student, teacher, temperature=2.0, beta=beta).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5, float("nan")])
def test_jsd_refuses_its_limits(beta: float, logits: Make) -> None:
    with pytest.raises(HeadstartError, match=r"jsd: beta=.* strictly between 0 and 1; for the ends use kl"):
        jsd(logits(1, 3), logits(1, 3), beta=beta)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_dkd_weighs_its_two_parts(alpha: float, beta: float, logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    values = dkd(student, teacher, temperature=1.0, labels=LABELS, alpha=alpha, beta=beta)
    expected = _dkd(_probabilities(teacher, 1.0), _probabilities(student, 1.0), alpha, beta)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-10)


def test_dkd_is_kl_when_the_parts_are_coupled_again(logits: Make) -> None:
    student, teacher = logits(1, CLASSES), logits(1, CLASSES)
    rest = 1 - _probabilities(teacher, 4.0)[0, 2]
    coupled = dkd(student, teacher, temperature=4.0, labels=torch.tensor([2]), alpha=1.0, beta=float(rest))
    torch.testing.assert_close(coupled, kl(student, teacher, temperature=4.0))


def test_dkd_compares_the_other_classes_apart_from_the_label(logits: Make) -> None:
    """However sure both are of the label, and wherever its logit lies."""
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    sure = 500.0 * F.one_hot(LABELS, CLASSES)
    values = [dkd(s, t, labels=LABELS, alpha=0.0) for s in (student, student + sure) for t in (teacher, teacher + sure)]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])


def test_dkd_needs_labels(logits: Make) -> None:
    with pytest.raises(HeadstartError, match=r"dkd needs the labels: call distiller\(.*labels=labels\)"):
        dkd(logits(1, 3), logits(1, 3))


def test_dist_weighs_its_two_parts(logits: Make) -> None:
    student, teacher = logits(ROWS, CLASSES), logits(ROWS, CLASSES)
    p, q = _probabilities(teacher, 1.0), _probabilities(student, 1.0)
    rows = np.mean([stats.pearsonr(a, b).statistic for a, b in zip(p, q, strict=True)])
    columns = np.mean([stats.pearsonr(a, b).statistic for a, b in zip(p.T, q.T, strict=True)])
    value = dist(student, teacher, beta=2.0, gamma=3.0).mean().item()
    assert value == pytest.approx(2 * (1 - rows) + 3 * (1 - columns))


@pytest.mark.parametrize("rows", [0, 1])
def test_dist_of_hardly_any_rows_has_a_finite_gradient(rows: int, logits: Make) -> None:
    assert _gradient(dist, logits(rows, CLASSES), logits(rows, CLASSES)).isfinite().all()


class TestStandardized:
    def test_is_the_z_score(self, logits: Make) -> None:
        values = logits(ROWS, CLASSES, scale=10.0)
        np.testing.assert_allclose(standardized(values).numpy(), stats.zscore(values.numpy(), axis=-1), rtol=1e-5)

    def test_hides_shift_and_scale(self, logits: Make) -> None:
        teacher = logits(ROWS, CLASSES)
        torch.testing.assert_close(standardized(5 * teacher + 3), standardized(teacher), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_equal_logits_have_a_finite_gradient(self, value: float, logits: Make) -> None:
        """A classifier that starts from zeros gives them in the first step."""

        def loss(student: Tensor, teacher: Tensor) -> Tensor:
            return kl(standardized(student), standardized(teacher))

        gradient = _gradient(loss, torch.full((2, CLASSES), value), logits(2, CLASSES))
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0

    def test_widens_half_precision(self, logits: Make) -> None:
        assert standardized(logits(2, 3).bfloat16()).dtype == torch.float32


def test_losses_do_not_change_their_inputs(logits: Make) -> None:
    student, teacher, labels = logits(ROWS, CLASSES), logits(ROWS, CLASSES), LABELS.clone()
    before: list[Any] = [student.clone(), teacher.clone(), labels.clone()]
    for name in NAMES:
        LOSSES[name].function(student, teacher, temperature=2.0, labels=labels)
    for now, then in zip([student, teacher, labels], before, strict=True):
        assert torch.equal(now, then)
