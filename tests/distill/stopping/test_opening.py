"""A window that waits for the student: when it opens, that it is the same however steps are cut, what is refused."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F

from headstart.distill import Distiller, Projection
from headstart.distill.stopping import Opened
from headstart.distill.stopping.opening import RECENT
from headstart.errors import HeadstartError
from tests.distill.stopping.streams import CLASSES, TOTAL, WRONG_AT, Echo, batch, go

LEARNS = [(8.0 * step / TOTAL, 6.0) for step in range(TOTAL)]


def waiting(open_at: float = 0.4, *, total_steps: int = TOTAL, **options: Any) -> Distiller:
    return Distiller(Echo(), total_steps=total_steps, open_at=open_at, **{"stop": 1.0, **options})


def opened(distiller: Distiller) -> Opened:
    assert distiller.opened is not None
    return distiller.opened


def brier(step: int, skill: float) -> float:
    """By numpy."""
    logits, _, labels = batch(step, student=skill, teacher=0.0)
    p = np.exp(logits.detach().double().numpy())
    p /= p.sum(-1, keepdims=True)
    return float(((p - np.eye(CLASSES)[labels.numpy()]) ** 2).sum(-1).mean())


class TestWhen:
    def test_once_the_mean_of_the_last_looks_is_low_enough(self) -> None:
        distiller = waiting()
        weights = go(distiller, LEARNS)
        scores = [brier(step, skill) for step, (skill, _) in enumerate(LEARNS)]
        means = [sum(scores[end - RECENT : end]) / RECENT for end in range(RECENT, TOTAL)]
        first = next(place for place, mean in enumerate(means) if mean <= 0.4) + RECENT
        assert opened(distiller).step == first + 1  # read a look later, so that nothing waits for the device
        assert opened(distiller).brier == pytest.approx(means[first - RECENT], rel=1e-5)
        assert weights == [0.0] * (first + 1) + [0.9] * (TOTAL - first - 1)

    def test_never_for_a_student_that_stays_behind(self) -> None:
        distiller = waiting()
        assert go(distiller, [(0.5, 6.0)] * TOTAL) == [0.0] * TOTAL
        assert distiller.opened is None and distiller.closed

    def test_not_on_a_lucky_batch(self) -> None:
        distiller = waiting()
        go(distiller, [(9.0 if step % 4 == 0 else 0.5, 6.0) for step in range(TOTAL)])
        assert distiller.opened is None

    def test_not_before_the_window_starts_nor_after_it_ends(self) -> None:
        distiller = waiting(2.0, start=0.25, stop=0.5, every=2)
        weights = go(distiller, LEARNS)
        assert [step for step, weight in enumerate(weights) if weight] == list(range(100, 200, 2))

    def test_the_beginning_that_is_told_is_the_first_distilled_step(self) -> None:
        """Not one before the window's start or off its cadence; and none where no step is left."""
        distiller = waiting(2.0, start=0.25, every=7)
        weights = go(distiller, LEARNS)
        assert weights.index(0.9) == opened(distiller).step == 100
        late = waiting(2.0, stop=(RECENT + 1) / TOTAL)
        assert not any(go(late, LEARNS)) and late.opened is None

    def test_it_rises_from_where_it_opened(self) -> None:
        distiller = waiting(2.0, ramp_up=0.02)
        weights = go(distiller, LEARNS)
        first = opened(distiller).step
        assert weights[first : first + 9] == pytest.approx([0.9 * min(1, (place + 0.5) / 8) for place in range(9)])

    def test_with_a_counter_that_jumps(self) -> None:
        distiller = waiting(2.0, total_steps=5 * TOTAL)
        for step in range(1, 5 * TOTAL, 7):
            distiller.current_step = step
            logits, target, labels = batch(step, student=1.0, teacher=6.0)
            distiller(F.cross_entropy(logits, labels), logits, target, labels=labels)
        assert opened(distiller).step < 5 * TOTAL // 20

    def test_of_many_steps_one_of_each_block_is_looked_at(self) -> None:
        distiller = waiting(2.0, total_steps=4 * TOTAL)
        go(distiller, LEARNS[:60])
        assert opened(distiller).step == 4 * RECENT + 1

    def test_an_automatic_stop_begins_with_it(self) -> None:
        distiller = waiting(0.4, stop="auto", cap=1.0, warmup=0.0)
        go(distiller, [(skill, WRONG_AT) for skill, _ in LEARNS])
        assert distiller.stopped is not None
        assert opened(distiller).step + 20 < distiller.stopped.step < opened(distiller).step + 60

    def test_of_a_training_that_is_made_longer_each_new_block_is_looked_at(self) -> None:
        distiller = waiting(2.0, total_steps=4 * TOTAL, start=0.5)
        go(distiller, [(1.0, 6.0)] * 100)
        longer = waiting(2.0, total_steps=8 * TOTAL)
        longer.load_state_dict(
            distiller.state_dict() | {"opening": distiller.state_dict()["opening"] | {"opened": None}}
        )
        go(longer, [(1.0, 6.0)] * 40, first=100)
        assert opened(longer).step <= 110

    def test_a_window_that_never_opened_has_not_stopped(self, caplog: pytest.LogCaptureFixture) -> None:
        distiller = waiting(0.4, stop="auto", cap=1.0, warmup=0.0)
        with caplog.at_level(logging.INFO, "headstart"):
            go(distiller, [(0.5, 6.0)] * TOTAL)
        assert distiller.closed and distiller.opened is None and distiller.stopped is None
        assert not any("stopped" in message for message in caplog.messages)

    def test_told_in_words_and_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        distiller = waiting()
        with caplog.at_level(logging.INFO, "headstart"):
            go(distiller, LEARNS)
        assert f"began at step {opened(distiller).step} of {TOTAL} (" in str(opened(distiller)) == caplog.messages[-1]


class TestTheSame:
    @pytest.mark.parametrize("total_steps", [TOTAL, 2 * TOTAL + 7])
    def test_after_a_resume_at_any_step(self, total_steps: int) -> None:
        skills = [(skill, 6.0) for skill in np.linspace(0, 6, 90)]
        whole = waiting(total_steps=total_steps)
        expected = go(whole, skills)
        killed, before = waiting(total_steps=total_steps), expected[:0]
        for cut in range(1, 90, 6):
            before += go(killed, skills[len(before) : cut], first=len(before))
            resumed = waiting(total_steps=total_steps)
            resumed.load_state_dict(json.loads(json.dumps(killed.state_dict())))
            assert before + go(resumed, skills[cut:], first=cut) == expected, cut
            assert resumed.state_dict() == whole.state_dict(), cut
        assert 0.0 in expected and 0.9 in expected

    def test_of_micro_batches_of_several_heads_and_in_one_pass(self) -> None:
        whole = waiting()
        go(whole, LEARNS)
        cut, several, together = waiting(), waiting(), waiting()
        several = Distiller(Pair(), total_steps=TOTAL, stop=1.0, open_at=0.4)
        for step, (student, teacher) in enumerate(LEARNS):
            logits, target, labels = batch(step, student=student, teacher=teacher)
            task = F.cross_entropy(logits, labels)
            for part in (slice(0, 10), slice(10, None)):
                cut(task, logits[part], target[part], labels=labels[part])
            several(task, {"a": logits, "b": logits}, target, labels={"a": labels, "b": labels})
            together.loss(logits, labels, target)
            for distiller in (cut, several, together):
                distiller.step()
        assert opened(cut).step == opened(several).step == opened(together).step == opened(whole).step

    def test_of_logits_that_never_exist_in_full(self) -> None:
        distiller, whole = waiting(), waiting()
        go(whole, LEARNS)
        for step, (student, teacher) in enumerate(LEARNS):
            logits, target, labels = batch(step, student=student, teacher=teacher)
            distiller.loss(Projection(logits, torch.eye(CLASSES)), labels, target)
            distiller.step()
        assert opened(distiller).step == opened(whole).step

    def test_rows_without_a_label_count_nowhere(self) -> None:
        distiller, whole = waiting(), waiting()
        go(whole, LEARNS)
        for step, (student, teacher) in enumerate(LEARNS):
            logits, target, labels = batch(step, student=student, teacher=teacher)
            wild = torch.cat([logits, torch.full_like(logits, 50.0)])
            more = torch.cat([labels, torch.full_like(labels, -100)])
            distiller(F.cross_entropy(wild, more), wild, torch.cat([target, target]), labels=more)
            distiller.step()
        assert opened(distiller) == opened(whole)

    def test_the_task_loss_itself_comes_back_until_then(self) -> None:
        distiller = waiting()
        logits, target, labels = batch(0, student=0.0, teacher=6.0)
        task = F.cross_entropy(logits, labels)
        assert distiller(task, logits, target, labels=labels) is task
        assert distiller.needs_logits and not distiller.active

    def test_going_back_begins_anew(self) -> None:
        distiller, fresh = waiting(), waiting()
        go(distiller, [(9.0, 6.0)] * (RECENT - 1))
        distiller.current_step = 0
        go(distiller, LEARNS)
        go(fresh, LEARNS)
        assert opened(distiller) == opened(fresh)

    def test_going_back_after_it_has_opened_shuts_it(self) -> None:
        distiller = waiting(0.4)
        go(distiller, [(9.0, 6.0)] * (RECENT + 2))
        assert opened(distiller).step == RECENT + 1
        distiller.current_step = 0
        assert distiller.opened is None and not distiller.active
        fresh = waiting(0.4)
        assert go(distiller, LEARNS) == go(fresh, LEARNS)


class Pair(nn.Module):
    def forward(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": logits, "b": logits}


def test_processes_agree_on_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process whose student is wrong throughout keeps the window shut in this one."""
    monkeypatch.setattr("headstart.distill.later.together", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", lambda sums: sums.add_(torch.tensor([64.0, 128.0])))
    distiller = waiting()
    go(distiller, [(20.0, 6.0)] * TOTAL)
    assert distiller.opened is None
    distiller = waiting(1.2)
    go(distiller, [(20.0, 6.0)] * TOTAL)
    assert opened(distiller).brier == pytest.approx(1.0, abs=0.01)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"open_at": 0.0}, r"open_at=0.0 is outside \(0, 2\]: the student's Brier score"),
            ({"open_at": float("nan")}, "open_at=nan is outside"),
            ({"open_at": 0.4, "head": "labels"}, "open_at compares probabilities of classes .* head='labels' has none"),
            ({"open_at": 0.4, "head": "values", "loss": "mse"}, "head='values' has none; leave it out, or set start"),
        ],
    )
    def test_when_it_is_made(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(HeadstartError, match=message):
            Distiller(Echo(), total_steps=10, **options)

    def test_labels_that_are_no_classes(self) -> None:
        logits, target, labels = batch(0, student=1.0, teacher=1.0)
        with pytest.raises(HeadstartError, match=r"these are torch.float32 of shape \(64,\); give their indices"):
            waiting()(F.cross_entropy(logits, labels), logits, target, labels=labels.float())

    def test_classes_in_a_dimension_that_is_not_certain(self) -> None:
        logits = 2 * torch.randn(2, CLASSES, CLASSES, requires_grad=True)
        labels = torch.zeros(2, CLASSES, dtype=torch.int64)
        with pytest.raises(HeadstartError, match="class_dim"):
            waiting()(F.cross_entropy(logits, labels), logits, logits.detach(), labels=labels)

    def test_a_batch_without_labels(self) -> None:
        logits, target, labels = batch(0, student=1.0, teacher=1.0)
        with pytest.raises(HeadstartError, match=r"none: call distiller\(.*labels=labels\), or set start instead"):
            waiting()(F.cross_entropy(logits, labels), logits, target)

    @pytest.mark.parametrize("options", [{"open_at": 0.4}, {"stop": "auto"}])
    def test_labels_that_nobody_has_shifted(self, options: dict[str, Any]) -> None:
        student, tokens = nn.Embedding(CLASSES, CLASSES), torch.randint(CLASSES, (4, 8))
        teacher = nn.Sequential(nn.Embedding(CLASSES, CLASSES))
        teacher.forward = lambda input_ids: teacher[0](input_ids)  # type: ignore[method-assign]
        distiller, logits = Distiller(teacher, total_steps=10, **options), student(tokens)
        task, shifted = logits.mean(), F.pad(tokens, (0, 1), value=-100)[..., 1:]
        with pytest.raises(HeadstartError, match="open_at: the labels are the very tokens of the inputs"):
            distiller(task, logits, {"input_ids": tokens}, labels=tokens)
        answers = tokens.masked_fill(torch.arange(8) < 6, -100)  # whose prompts have no labels
        with pytest.raises(HeadstartError, match="open_at: the labels are the very tokens of the inputs"):
            distiller(task, logits, {"input_ids": tokens}, labels=answers)
        distiller(task, logits, {"input_ids": tokens}, labels=shifted)
