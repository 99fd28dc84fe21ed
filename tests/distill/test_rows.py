"""What a row means, in a loop: the numbers of each head, and what is refused before anything is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional as F

from headstart.distill import Distiller, Teacher, TeacherPool, dkd, kl
from headstart.errors import HeadstartError, TeacherError

Make = Callable[..., Tensor]
Give = Callable[[object], nn.Module]
INPUTS = torch.zeros(4, 2)
MAPS = r"class_dim=1 for maps \[batch, classes, height, width\]"
LABELS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.float64)


def _distilled(teacher: nn.Module, student: Tensor, labels: Any = None, **options: Any) -> float:
    distiller = Distiller(teacher, total_steps=4, **options)
    distiller(student.sum(), student.requires_grad_(), INPUTS, labels=labels)
    assert distiller.last is not None
    return distiller.last.distill_loss


class TestOneOutput:
    @pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "dkd", "dist"])
    @pytest.mark.parametrize("shape", [(4, 1), (4,)])
    def test_losses_over_classes_are_refused(
        self, name: str, shape: tuple[int, ...], logits: Make, given: Give
    ) -> None:
        with pytest.raises(
            HeadstartError, match=r"softmax over one class is 1.*head='values' and loss='mse' or 'huber'"
        ):
            _distilled(given(logits(*shape)), logits(*shape), loss=name)

    @pytest.mark.parametrize("labels", [None, torch.tensor([0.5, 1.0, -100.0, 3.0])])
    @pytest.mark.parametrize("head", [None, "values"])
    def test_mse_works(self, head: Any, labels: Tensor | None, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 1), logits(4)
        kept = torch.tensor([0, 1, 2, 3] if labels is None else [0, 1, 3])
        expected = F.mse_loss(student[kept, 0], teacher[kept]).item()
        assert _distilled(given(teacher), student, labels, loss="mse", head=head) == pytest.approx(expected)

    def test_a_yes_or_no(self, logits: Make, given: Give) -> None:
        student, teacher = logits(4), logits(4)
        expected = 16 * kl_divergence(Bernoulli(logits=teacher / 4), Bernoulli(logits=student / 4)).mean().item()
        assert _distilled(given(teacher), student, torch.ones(4), head="labels") == pytest.approx(expected)


class TestLabels:
    @pytest.mark.parametrize("missing", [-100.0, torch.nan])
    def test_labels_left_out_count_nowhere(self, missing: float, logits: Make, given: Give) -> None:
        student, teacher, labels = logits(4, 3), logits(4, 3), LABELS.clone()
        labels[0, 1] = labels[3] = missing
        there = labels.isfinite() & (labels != -100)
        values = 16 * kl_divergence(Bernoulli(logits=teacher / 4), Bernoulli(logits=student / 4))
        teacher = teacher.masked_fill(~there, torch.nan)
        distiller = Distiller(given(teacher), total_steps=4, stop=1.0, head="labels", weight=1.0)
        loss = distiller(student.sum(), student.requires_grad_(), INPUTS, labels=labels)
        torch.testing.assert_close(loss, values[there].mean())
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.isfinite().all() and (gradient[~there] == 0).all()
        distiller.step()
        distiller.step()  # no flag

    @pytest.mark.parametrize("average", ["probability", "logit"])
    def test_several_teachers(self, average: Any, logits: Make, given: Give) -> None:
        student, teachers = logits(4, 3), [logits(4, 3), logits(4, 3)]
        pool = TeacherPool([given(one) for one in teachers], draw="all", weights=[1, 3])
        found = _distilled(pool, student, head="labels", average=average, temperature=2.0)  # type: ignore[arg-type]
        if average == "logit":
            target = Bernoulli(logits=(0.25 * teachers[0] + 0.75 * teachers[1]) / 2)
        else:
            target = Bernoulli(probs=0.25 * (teachers[0] / 2).sigmoid() + 0.75 * (teachers[1] / 2).sigmoid())
        assert found == pytest.approx(4 * kl_divergence(target, Bernoulli(logits=student / 2)).mean().item())

    def test_own_loss_has_whole_rows(self, logits: Make, given: Give) -> None:
        def total(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
            return (student - teacher).abs().sum(-1)

        student, teacher = logits(4, 3), logits(4, 3)
        expected = (student - teacher).abs().sum(-1)
        assert _distilled(given(teacher), student, LABELS, head="labels", loss=total) == pytest.approx(
            expected.mean().item()
        )
        distiller = Distiller(given(teacher), total_steps=4, head="labels", loss=total, weight=1.0)
        loss = distiller(student.sum(), student, INPUTS, labels=LABELS, num_items=(LABELS != -100).sum())
        torch.testing.assert_close(loss, expected.mean())

    @pytest.mark.parametrize("head", [None, "classes"])
    @pytest.mark.parametrize("labels", [LABELS, LABELS.long(), torch.eye(3)[[0, 1, 1, 2]] * 2], ids=str)
    def test_of_the_logits_shape_ask_for_a_head(self, head: Any, labels: Tensor, logits: Make, given: Give) -> None:
        with pytest.raises(
            HeadstartError, match=r"labels of the logits' shape \(4, 3\).*set head='labels' for several"
        ):
            _distilled(given(logits(4, 3)), logits(4, 3), labels, head=head)

    def test_that_do_not_fit(self, logits: Make, given: Give) -> None:
        with pytest.raises(HeadstartError, match="head='labels' takes one for each output"):
            _distilled(given(logits(4, 3)), logits(4, 3), torch.ones(4), head="labels")


class TestMixtures:
    SHARES = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]], dtype=torch.float64)

    def test_of_a_loss_that_does_not_look_at_labels(self, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 3), logits(4, 3)
        expected = kl(student, teacher, temperature=4.0).mean().item()
        assert _distilled(given(teacher), student, self.SHARES) == pytest.approx(expected)

    def test_of_one_class_each_may_be_several_labels(self, logits: Make, given: Give) -> None:
        student, teacher, labels = logits(4, 3), logits(4, 3), F.one_hot(torch.tensor([0, 1, 2, 2])).double()
        with pytest.raises(HeadstartError, match="the head was not told; set head='labels'"):
            _distilled(given(teacher), student, labels)
        expected = kl(student, teacher, temperature=4.0).mean().item()
        assert _distilled(given(teacher), student, labels, head="classes") == pytest.approx(expected)

    def test_dkd(self, logits: Make, given: Give) -> None:
        student, teacher, shares = logits(4, 3), logits(4, 3), self.SHARES.clone()
        expected = dkd(student, teacher, temperature=4.0, labels=shares)
        assert _distilled(given(teacher), student, shares, loss="dkd") == pytest.approx(expected.mean().item())
        shares[1] = -100
        assert _distilled(given(teacher), student, shares, loss="dkd") == pytest.approx(
            expected[[0, 2, 3]].mean().item()
        )

    def test_dkd_takes_no_floats_for_indices(self, logits: Make, given: Give) -> None:
        with pytest.raises(
            HeadstartError, match="dkd takes the class of each row, as int64, or the probability of each"
        ):
            _distilled(given(logits(4, 3)), logits(4, 3), torch.ones(4), loss="dkd")


class TestMaps:
    @pytest.mark.parametrize("labelled", [False, True])
    def test_rows_are_pixels(self, labelled: bool, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 5, 2, 3), logits(4, 5, 2, 3)
        labels = torch.arange(24).view(4, 2, 3) % 5 if labelled else None
        if labels is not None:
            labels[0, 1, 2] = -100
        rows = [side.permute(0, 2, 3, 1).flatten(0, -2) for side in (student, teacher)]
        values = kl(*rows, temperature=4.0)
        expected = values if labels is None else values[labels.flatten() != -100]
        found = _distilled(given(teacher), student, labels, class_dim=1)
        assert found == pytest.approx(expected.mean().item())

    def test_both_losses(self, logits: Make, given: Give) -> None:
        student, labels = logits(4, 5, 2, 3).requires_grad_(), torch.arange(24).view(4, 2, 3) % 5
        distiller = Distiller(given(logits(4, 5, 2, 3)), total_steps=4, class_dim=1, weight=0.5)
        loss = distiller.loss(student, labels, INPUTS)
        assert distiller.last is not None
        assert distiller.last.task_loss == pytest.approx(F.cross_entropy(student, labels).item())
        task = 0.5 * F.cross_entropy(student, labels)
        torch.testing.assert_close(loss, task + 0.5 * distiller.last.distill_loss)

    @pytest.mark.parametrize("call", ["call", "loss"])
    @pytest.mark.parametrize("shape", [(4, 5, 2, 3), (4, 5, 7), (4, 3, 3, 3)])
    def test_with_labels_are_refused_until_told(
        self, shape: tuple[int, ...], call: str, logits: Make, given: Give
    ) -> None:
        student, labels = logits(*shape).requires_grad_(), torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
        distiller = Distiller(given(logits(*shape)), total_steps=4)
        with pytest.raises(HeadstartError, match=MAPS):
            if call == "loss":
                distiller.loss(student, labels, INPUTS)
            else:
                distiller(student.sum(), student, INPUTS, labels=labels)

    def test_without_labels_are_refused_until_told(self, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 2, 2, 3), logits(4, 2, 2, 3)
        with pytest.raises(HeadstartError, match=MAPS):
            _distilled(given(teacher), student)
        expected = kl(student.flatten(0, -2), teacher.flatten(0, -2), temperature=4.0).mean().item()
        assert _distilled(given(teacher), student, class_dim=-1) == pytest.approx(expected)
        # Tokens of several sequences a sample: their labels tell.
        assert _distilled(given(teacher), student, torch.zeros(4, 2, 2, dtype=torch.int64)) == pytest.approx(expected)

    def test_mse_of_each_pixel_needs_no_telling(self, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 3, 2, 2), logits(4, 3, 2, 2)
        expected = F.mse_loss(student, teacher).item()
        assert _distilled(given(teacher), student, loss="mse") == pytest.approx(expected)

    def test_teachers_that_count_on_classes_that_come_last(self, given: Give) -> None:
        with pytest.raises(HeadstartError, match=r"teacher 'Given': classes= picks from the last dimension"):
            Distiller(Teacher(given(None), classes=2), total_steps=4, class_dim=1)

    def test_a_dimension_that_is_not_there(self, logits: Make, given: Give) -> None:
        with pytest.raises(HeadstartError, match="class_dim=3: outputs of shape"):
            _distilled(given(logits(4, 3)), logits(4, 3), class_dim=3)


class TestBothLosses:
    @pytest.mark.parametrize(
        ("head", "loss", "task"),
        [("labels", "kl", F.binary_cross_entropy_with_logits), ("values", "huber", F.mse_loss)],
    )
    @pytest.mark.parametrize("stop", [1.0, 0.0])
    def test_of_labels_and_values(
        self, stop: float, head: Any, loss: str, task: Callable[..., Tensor], logits: Make, given: Give
    ) -> None:
        student, labels = logits(4, 3).requires_grad_(), LABELS.clone()
        labels[1, 2] = -100
        distiller = Distiller(given(logits(4, 3)), total_steps=4, stop=stop, head=head, loss=loss, weight=0.0)
        expected = task(student[labels != -100], labels[labels != -100])
        torch.testing.assert_close(distiller.loss(student, labels, INPUTS), expected)

    def test_of_mixtures(self, logits: Make, given: Give) -> None:
        student, shares = logits(4, 3).requires_grad_(), TestMixtures.SHARES
        distiller = Distiller(given(logits(4, 3)), total_steps=4, weight=0.0)
        loss = distiller.loss(student, shares, INPUTS, label_smoothing=0.1)
        torch.testing.assert_close(loss, F.cross_entropy(student, shares, label_smoothing=0.1))

    def test_messages(self, logits: Make, given: Give) -> None:
        student = logits(4, 3).requires_grad_()
        with pytest.raises(HeadstartError, match="the cross-entropy of classes takes their indices as int64"):
            Distiller(given(student), total_steps=4).loss(student, torch.ones(4), INPUTS)
        with pytest.raises(HeadstartError, match="label_smoothing is for classes"):
            distiller = Distiller(given(student), total_steps=4, head="labels")
            distiller.loss(student, LABELS, INPUTS, label_smoothing=0.1)


class TestFirstLook:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_probabilities_are_refused(self, dtype: torch.dtype, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 9), logits(4, 9).softmax(-1).to(dtype)
        teacher[1] = torch.nan  # in a row that does not count
        with pytest.raises(TeacherError, match=r"teacher 'Given' gives probabilities .*torch\.log"):
            _distilled(given(teacher), student, torch.tensor([0, -100, 2, 3]))

    def test_their_logarithms_are_taken(self, logits: Make, given: Give) -> None:
        student, teacher = logits(4, 9), logits(4, 9).log_softmax(-1)
        assert _distilled(given(teacher), student) == pytest.approx(kl(student, teacher, temperature=4.0).mean().item())

    def test_a_function_may_want_probabilities(self, logits: Make, given: Give) -> None:
        def brier(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
            return (student.softmax(-1) - teacher).square().sum(-1)

        assert _distilled(given(logits(4, 3).softmax(-1)), logits(4, 3), loss=brier) > 0

    @pytest.mark.parametrize(
        ("task", "words"),
        [(F.binary_cross_entropy_with_logits, "set head='labels'"), (F.mse_loss, "head='values' and loss='mse'")],
    )
    def test_a_task_loss_of_another_head_is_told_once(
        self, task: Callable[..., Tensor], words: str, logits: Make, given: Give
    ) -> None:
        student = logits(4, 3).requires_grad_()
        distiller = Distiller(given(logits(4, 3)), total_steps=4)
        with pytest.warns(UserWarning, match=words):
            distiller(0.5 * task(student, LABELS), student, INPUTS)
        distiller(task(student, LABELS), student, INPUTS)  # a warning would be an error

    def test_a_head_that_was_told_is_believed(self, logits: Make, given: Give) -> None:
        student = logits(4, 3).requires_grad_()
        distiller = Distiller(given(logits(4, 3)), total_steps=4, head="classes")
        distiller(F.binary_cross_entropy_with_logits(student, LABELS), student, INPUTS)
