"""Part of a batch: teachers see its first samples, and the loss is the mean over these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import LOSSES, Distiller, dist, kl
from headstart.distill.asking.part_of_batch import Part, first_part
from headstart.distill.fused import loss as fused_loss
from headstart.distill.fused import rows
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.distill.targets.sparse import top_k_target
from headstart.errors import HeadstartError, TeacherError
from tests.distill.batch import CLASSES, FEATURES, INPUTS, LABELS

Counting = Callable[..., Any]
Make = Callable[..., Tensor]
SOME = torch.where(LABELS == 2, -100, LABELS)  # rows 2 and 7


@pytest.mark.parametrize(
    ("fraction", "samples", "first"), [(0.5, 8, 4), (0.5, 7, 4), (0.01, 7, 1), (0.3, 10, 3), (0.999, 4, 4), (0.5, 1, 1)]
)
def test_samples_are_rounded_up(fraction: float, samples: int, first: int) -> None:
    assert first_part(fraction, torch.zeros(samples, 2)) == Part(first, samples)


def test_all_is_no_part() -> None:
    assert first_part(1.0, "nothing that has a length") is None


def test_of_no_samples_all_are_taken() -> None:
    assert first_part(0.5, torch.zeros(0, 2)) is None


def test_keys_tell_the_number_of_samples() -> None:
    """The first tensor of the inputs need not list samples."""
    keys = Keys(torch.arange(6), 0)
    assert first_part(0.5, {"rows": torch.arange(12)}, keys) == Part(3, 6)


@pytest.mark.parametrize("inputs", ["text", torch.zeros(())])
def test_inputs_without_a_number_of_samples_are_refused(inputs: Any) -> None:
    with pytest.raises(HeadstartError, match="do not tell how many samples there are; give keys="):
        first_part(0.5, inputs)


def test_of_inputs_everything_that_goes_by_samples_is_cut() -> None:
    inputs = {
        "ids": torch.arange(12).view(4, 3),
        "rows": torch.arange(8),
        "positions": torch.arange(3).view(1, 3),
        "scale": torch.tensor(2.0),
        "flag": True,
    }
    found = Part(1, 4).of_inputs(inputs)
    assert found["ids"].tolist() == [[0, 1, 2]]
    assert found["rows"].tolist() == [0, 1]
    assert found["positions"] is inputs["positions"] and found["scale"] is inputs["scale"] and found["flag"] is True


def test_of_keys_partners_are_cut_too() -> None:
    keys = Part(2, 3).of_keys(Keys(torch.tensor([4, 7, 1]), 5, torch.tensor([1, 4, 7])))
    assert (keys.samples.tolist(), keys.epoch, keys.partners.tolist()) == ([4, 7], 5, [1, 4])  # type: ignore[union-attr]


def test_rows_that_samples_do_not_share_equally_are_refused(student: nn.Module, counting: Counting) -> None:
    distiller = Distiller(counting(), total_steps=2, fraction=0.5)
    logits = student(INPUTS)[:7]
    with pytest.raises(HeadstartError, match="7 rows of logits do not divide among 8 samples"):
        distiller(logits.sum(), logits, INPUTS)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_other_fractions_are_refused(fraction: float, counting: Counting) -> None:
    with pytest.raises(HeadstartError, match="must be above 0 and at most 1"):
        Distiller(counting(), total_steps=2, fraction=fraction)


@pytest.mark.parametrize("options", [{}, {"num_items": 5}, {"num_items": torch.tensor(5)}], ids=str)
@pytest.mark.parametrize("labels", [None, SOME], ids=["no labels", "labels"])
def test_is_the_mean_over_the_first_samples(
    labels: Tensor | None, options: dict[str, Any], student: nn.Module, counting: Counting
) -> None:
    """The weight is as it is, the task loss is over all, and items are those of the whole batch."""
    teacher = counting()
    distiller = Distiller(teacher, total_steps=2, weight=0.7, fraction=0.5)
    logits = student(INPUTS)
    task = F.cross_entropy(logits, LABELS)
    values = kl(logits, teacher(INPUTS), temperature=4.0)[:4]
    kept = values if labels is None else values[labels[:4] != -100]
    expected = kept.sum() / (2.5 if options else len(kept))
    loss = distiller(task, logits, INPUTS, labels=labels, **options)
    torch.testing.assert_close(loss, 0.3 * task + 0.7 * expected)


def test_teachers_are_shown_no_others(student: nn.Module, counting: Counting) -> None:
    teacher, seen = counting(), list[Tensor]()
    teacher.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    distiller = Distiller(teacher, total_steps=2, fraction=0.25)
    distiller.prefetch(INPUTS)
    distiller.loss(student(INPUTS), LABELS, INPUTS)
    (shown,) = seen
    assert torch.equal(shown, INPUTS[:2])


@pytest.mark.parametrize("fused", [True, False], ids=["many logits", "few logits"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"num_items": 5}], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_both_losses_together_are_the_task_loss_and_the_call(
    name: str,
    options: dict[str, Any],
    fused: bool,
    student: nn.Module,
    counting: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fused:
        monkeypatch.setattr(fused_loss, "_MANY", 0)
        monkeypatch.setattr(fused_loss, "_MANY_WITHOUT", 0)
        monkeypatch.setattr(rows, "_elements", lambda _: 3 * CLASSES)
    distiller = Distiller(counting(), total_steps=2, loss=name, weight=0.7, fraction=0.5)
    logits, items = student(INPUTS), options.get("num_items")
    loss = distiller.loss(logits, SOME, INPUTS, **options)
    assert distiller.last is not None
    told = distiller.last.task_loss, distiller.last.distill_loss
    reduction, smoothing = "mean" if items is None else "sum", options.get("label_smoothing", 0.0)
    task = F.cross_entropy(logits, SOME, label_smoothing=smoothing, reduction=reduction) / (items or 1)
    expected = distiller(task, logits, INPUTS, labels=SOME, num_items=items)
    torch.testing.assert_close(loss, expected)
    assert told == pytest.approx((distiller.last.task_loss, distiller.last.distill_loss), rel=1e-5)
    parameters = list(student.parameters())
    gradients = [torch.autograd.grad(of, parameters, retain_graph=True) for of in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_accuracies_are_of_the_part(student: nn.Module, counting: Counting) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=2, fraction=0.5)
    logits = student(INPUTS)
    distiller.loss(logits, LABELS, INPUTS)
    assert distiller.last is not None
    for found, of in ((distiller.last.student_accuracy, logits), (distiller.last.teacher_accuracy, teacher(INPUTS))):
        assert found == pytest.approx((of[:4].argmax(-1) == LABELS[:4]).float().mean().item())


def test_dist_correlates_over_the_part(student: nn.Module, counting: Counting) -> None:
    teacher = counting()
    distiller = Distiller(teacher, total_steps=2, loss="dist", temperature=1.0, weight=1.0, fraction=0.5)
    logits = student(INPUTS)
    expected = dist(logits[:4], teacher(INPUTS)[:4]).mean()
    torch.testing.assert_close(distiller(logits.sum(), logits, INPUTS), expected)


@pytest.mark.parametrize("flat", [False, True], ids=["tokens of samples", "picked rows"])
def test_rows_of_tokens_follow_their_samples(flat: bool, student: nn.Module, counting: Counting) -> None:
    teacher, tokens = counting(), torch.randn(4, 3, FEATURES)
    inputs = {"inputs": tokens}
    distiller = Distiller(
        nn.Sequential(teacher, nn.Flatten(0, 1)) if flat else teacher, total_steps=2, weight=1.0, fraction=0.5
    )
    logits = student(tokens).flatten(0, 1) if flat else student(tokens)
    loss = distiller(logits.sum(), logits, inputs if not flat else tokens)
    expected = kl(student(tokens[:2]).flatten(0, 1), teacher(tokens[:2]).flatten(0, 1), temperature=4.0).mean()
    torch.testing.assert_close(loss, expected)


def test_a_teacher_that_gives_rows_of_all_is_refused(student: nn.Module, given: Callable[[object], nn.Module]) -> None:
    distiller = Distiller(given(torch.zeros(8, CLASSES)), total_steps=2, fraction=0.5)
    with pytest.raises(TeacherError, match=r"gives logits of shape \(8, 5\), the student \(4, 5\)"):
        distiller.loss(student(INPUTS), LABELS, INPUTS)


class Cached(TargetSource):
    """Gives top-k targets by sample."""

    name, sparse = "cached", True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def targets(self, inputs: Any, keys: Keys | None) -> Target:
        assert keys is not None
        return top_k_target(self.logits[keys.samples], 2, 4.0)

    def to(self, device: torch.device) -> None:
        pass

    def check(self, use: Use) -> None:
        pass


def test_cached_targets_are_read_for_the_part(student: nn.Module, logits: Make) -> None:
    all_logits, samples = logits(20, CLASSES), torch.arange(8) * 2
    distiller = Distiller(Cached(all_logits), total_steps=2, weight=1.0, fraction=0.5)
    of_student = student(INPUTS)
    loss = distiller.loss(of_student, LABELS, INPUTS, keys=Keys(samples, 0))
    expected = top_k_target(all_logits[samples[:4]], 2, 4.0).values(of_student[:4], kl).mean()
    torch.testing.assert_close(loss.double(), expected.double())


def test_crops_in_a_list_do_not_tell_whose_rows_are_the_first() -> None:
    """Rows of crops follow crop by crop, those of tokens sample by sample."""
    crops = [torch.ones(4, 3, 8, 8), torch.ones(4, 3, 4, 4)]
    part = first_part(0.5, crops)
    assert part is not None and part.of_rows(torch.arange(4)).tolist() == [0, 1]
    with pytest.raises(HeadstartError, match="8 rows of logits for 4 samples in a list of several tensors"):
        part.of_rows(torch.arange(8))
