"""Several heads, as the start and the end of an answer: each distilled, their losses averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import Distiller, kl
from headstart.distill.targets.source import Keys, TargetSource, Use
from headstart.errors import HeadstartError, TeacherError

Make = Callable[..., Tensor]
Give = Callable[[object], nn.Module]
INPUTS = torch.zeros(4, 2)
NAMES = ("start_logits", "end_logits")
LABELS = (torch.tensor([0, 1, 2, -100]), torch.tensor([2, -100, 4, 4]))


def _as(form: Any, values: Any) -> Any:
    return dict(zip(NAMES, values, strict=True)) if form is dict else form(values)


@pytest.fixture(params=[dict, tuple, list])
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("prefetched", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_is_the_mean_of_the_heads(labelled: bool, prefetched: bool, form: Any, logits: Make, given: Give) -> None:
    student, teacher = [[logits(4, 5).requires_grad_(labelled or True) for _ in NAMES] for _ in range(2)]
    target = [one.detach() for one in teacher]
    distiller = Distiller(given(_as(form, target)), total_steps=4, stop=1.0, weight=1.0)
    labels = _as(form, LABELS) if labelled else None
    rows = [labels != -100 if labelled else torch.ones(4, dtype=torch.bool) for labels in LABELS]
    of_each = [kl(s[keep], t[keep], temperature=4.0).mean() for s, t, keep in zip(student, target, rows, strict=True)]
    for _ in range(2):  # a prefetch knows of the heads only from the second step on
        if prefetched:
            distiller.prefetch(INPUTS)
        loss = distiller(student[0].sum(), _as(form, student), INPUTS, labels=labels)
        torch.testing.assert_close(loss, torch.stack(of_each).mean())
        distiller.step()
    assert distiller.last is not None and distiller.last.distill_loss == pytest.approx(loss.item())


def test_both_losses(form: Any, logits: Make, given: Give) -> None:
    student, teacher = [[logits(4, 5).requires_grad_() for _ in NAMES] for _ in range(2)]
    distiller = Distiller(given(_as(form, teacher)), total_steps=4, weight=0.0)
    task = torch.stack([F.cross_entropy(s, labels) for s, labels in zip(student, LABELS, strict=True)]).mean()
    torch.testing.assert_close(distiller.loss(_as(form, student), _as(form, LABELS), INPUTS), task)


def test_a_sick_head_is_told(logits: Make, given: Give) -> None:
    sick = logits(4, 5)
    sick[2, 1] = torch.nan
    distiller = Distiller(given(_as(dict, [logits(4, 5), sick])), total_steps=4, stop=1.0)
    student = [logits(4, 5).requires_grad_() for _ in NAMES]
    assert distiller(student[0].sum(), _as(dict, student), INPUTS).isfinite()
    distiller.step()
    with pytest.raises(TeacherError, match="gave non-finite logits at step 0"):
        distiller.step()


def test_messages(logits: Make, given: Give) -> None:
    one = logits(4, 5).requires_grad_()
    student, teacher = _as(dict, [one, one]), given({"start_logits": one})

    def call(logits: Any, teacher: nn.Module | TargetSource = teacher, labels: Any = None) -> None:
        Distiller(teacher, total_steps=4)(one.sum(), logits, INPUTS, labels=labels)

    with pytest.raises(
        TeacherError, match=r"student gives the heads 'start_logits', 'end_logits'.*gives 'start_logits'"
    ):
        call(student)
    with pytest.raises(TeacherError, match="student gives the heads 0, 1, and this teacher's forward gives one tensor"):
        call((one, one), given(one))
    with pytest.raises(HeadstartError, match="labels are for the heads 'start', the logits for 'start_logits'"):
        call(student, labels={"start": LABELS[0]})
    with pytest.raises(HeadstartError, match="labels are tuple, and the logits one tensor"):
        call(one, labels=LABELS)
    with pytest.raises(HeadstartError, match="logits: head 'loss' is NoneType, and no tensor; leave it out"):
        call({"loss": None, **student})
    with pytest.raises(HeadstartError, match="logits: no heads at all"):
        call({})


class Stored(TargetSource):
    """Targets from elsewhere."""

    name = "stored"

    def targets(self, inputs: Any, keys: Keys | None) -> Tensor:
        return torch.zeros(4, 5)

    def to(self, device: torch.device) -> None:
        pass

    def check(self, use: Use) -> None:
        pass


def test_stored_targets_are_of_one_head(logits: Make) -> None:
    student = _as(dict, [logits(4, 5).requires_grad_() for _ in NAMES])
    with pytest.raises(HeadstartError, match="stored: has targets of one head, and the student gives 'start_logits'"):
        Distiller(Stored(), total_steps=4)(student["start_logits"].sum(), student, INPUTS)
