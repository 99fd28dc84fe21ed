"""The automatic stop in a Distiller: when it comes, that it is the same however steps are cut, and what is refused."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from headstart.distill import Distiller
from headstart.distill.stopping import Stopped
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.distill.targets.sparse import top_k_target
from headstart.errors import HeadstartError, TeacherError
from tests.distill.stopping.streams import CLASSES, GOOD, PASSED, TOTAL, WRONG_AT, Echo, auto, batch, go

WRONG = [(1.0, WRONG_AT)] * TOTAL


def stopped_at(distiller: Distiller) -> Stopped:
    assert distiller.stopped is not None
    return distiller.stopped


class TestWhen:
    def test_not_while_the_teacher_helps(self) -> None:
        distiller = auto(weight=0.5)
        assert go(distiller, GOOD) == [0.5] * TOTAL
        assert stopped_at(distiller).reason == "cap" and stopped_at(distiller).end == TOTAL

    def test_soon_after_the_student_has_passed_the_teacher(self) -> None:
        distiller = auto()
        weights = go(distiller, PASSED)
        stopped = stopped_at(distiller)
        assert 0.35 * TOTAL < stopped.step < 0.6 * TOTAL
        assert stopped.student_loss is not None and stopped.teacher_loss is not None
        assert weights.index(0.0) == stopped.end == stopped.step + 4  # a ramp of one percent
        assert weights[stopped.step - 1 : stopped.end] == pytest.approx([0.9, 0.7875, 0.5625, 0.3375, 0.1125])
        assert set(weights[stopped.end :]) == {0.0}

    def test_soon_where_the_teacher_points_elsewhere(self) -> None:
        distiller = auto()
        go(distiller, WRONG)
        assert stopped_at(distiller).step < 0.1 * TOTAL

    def test_a_teacher_that_the_student_hovers_at(self) -> None:
        """Its losses do not tell, as the student gets no further; the gradients do, when the student has its errors."""
        distiller = auto()
        for step in range(TOTAL):
            logits, target, labels = batch(step, student=0.5, teacher=2.0)
            if step >= TOTAL // 4:
                noise = 0.3 * torch.randn(target.shape, generator=torch.Generator().manual_seed(step))
                logits = (target + noise).requires_grad_()
            distiller(F.cross_entropy(logits, labels), logits, target, labels=labels)
            distiller.step()
        stopped = stopped_at(distiller)
        assert stopped.reason == "disagreement" and TOTAL // 4 < stopped.step < 0.3 * TOTAL

    def test_labels_that_nobody_can_learn_make_no_teacher_worse(self) -> None:
        """Where nine of ten labels are chance, the cosine is small from the beginning, and says nothing."""
        distiller = auto()
        for step in range(TOTAL):
            logits, target, labels = batch(step, student=0.0, teacher=4.0)
            wild = torch.randint(CLASSES, labels.shape, generator=torch.Generator().manual_seed(step))
            labels = torch.where(torch.arange(len(labels)) % 10 == 0, labels, wild)
            flat = 0.1 * target  # it knows that, and is not sure of much
            distiller(F.cross_entropy(logits, labels), (0.1 * logits).requires_grad_(), flat, labels=labels)
            distiller.step()
        stopped = stopped_at(distiller)
        assert stopped.reason == "cap" and stopped.cosine is not None and stopped.cosine < 0.2

    @pytest.mark.parametrize("warmup", [0.25, 0.5])
    def test_not_while_the_rate_rises(self, warmup: float) -> None:
        distiller = auto(warmup=warmup)
        go(distiller, WRONG)
        assert warmup * TOTAL < stopped_at(distiller).step < (warmup + 0.1) * TOTAL

    def test_at_the_cap(self) -> None:
        distiller = auto(cap=0.25)
        assert go(distiller, GOOD).index(0.0) == TOTAL // 4 == stopped_at(distiller).step
        assert distiller.closed

    def test_a_ramp_of_ones_own(self) -> None:
        distiller = auto(ramp_down=0.1)
        go(distiller, WRONG)
        assert stopped_at(distiller).end - stopped_at(distiller).step == TOTAL // 10

    def test_of_fewer_steps_than_blocks(self) -> None:
        distiller = auto(total_steps=60)
        go(distiller, WRONG[:60])
        assert 20 < stopped_at(distiller).step < 40

    def test_of_many_steps_a_block_is_several(self) -> None:
        distiller = auto(total_steps=4 * TOTAL, every=2)
        go(distiller, WRONG)
        assert stopped_at(distiller).step % 4 == 0

    def test_teachers_are_let_go_and_the_task_loss_comes_back(self) -> None:
        teacher = Echo()
        reference = weakref.ref(teacher)
        distiller = auto(teacher)
        del teacher
        go(distiller, WRONG)
        gc.collect()
        assert reference() is None and distiller.closed and not distiller.active
        distiller.current_step = 0
        with pytest.raises(TeacherError, match="let go"):
            go(distiller, GOOD[:1])


class TestTold:
    def test_in_last_in_words_and_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        distiller = auto()
        with caplog.at_level(logging.INFO, "headstart"):
            go(distiller, WRONG)
        stopped = stopped_at(distiller)
        assert distiller.last is not None and distiller.last.stopped == stopped
        assert f"stopped at step {stopped.step} of {TOTAL} (" in str(stopped) == caplog.messages[-1]

    def test_a_resume_tells_nothing_new(self, caplog: pytest.LogCaptureFixture) -> None:
        distiller, resumed = auto(), auto()
        go(distiller, WRONG)
        with caplog.at_level(logging.INFO, "headstart"):
            resumed.load_state_dict(distiller.state_dict())
        assert resumed.stopped == distiller.stopped and resumed.closed and not caplog.messages

    def test_nothing_before(self) -> None:
        distiller = auto()
        go(distiller, GOOD[:50])
        assert distiller.stopped is None and distiller.last is not None and distiller.last.stopped is None

    def test_a_fixed_stop_has_none(self) -> None:
        distiller = Distiller(Echo(), total_steps=4, stop=0.5)
        go(distiller, GOOD[:4])
        assert distiller.stopped is None and distiller.state_dict() == {"current_step": 4}


class TestTheSame:
    @pytest.mark.parametrize("total_steps", [TOTAL, 2 * TOTAL + 7])
    def test_after_a_resume_at_any_step(self, total_steps: int) -> None:
        whole = auto(total_steps=total_steps)
        skills = [(2.0, 0.5)] * 90
        expected = go(whole, skills)
        killed, before = auto(total_steps=total_steps), expected[:0]
        for cut in range(1, 90, 6):
            before += go(killed, skills[len(before) : cut], first=len(before))
            resumed = auto(total_steps=total_steps)
            resumed.load_state_dict(json.loads(json.dumps(killed.state_dict())))
            assert before + go(resumed, skills[cut:], first=cut) == expected, cut
            assert resumed.state_dict() == whole.state_dict(), cut
        assert expected[-1] == 0.0

    def test_of_micro_batches(self) -> None:
        one, cut = auto(), auto()
        go(one, PASSED)
        for step, (student, teacher) in enumerate(PASSED):
            logits, target, labels = batch(step, student=student, teacher=teacher)
            for part in (slice(0, 10), slice(10, None)):
                cut(F.cross_entropy(logits[part], labels[part]), logits[part], target[part], labels=labels[part])
            cut.step()
        assert stopped_at(cut).step == stopped_at(one).step

    def test_in_one_pass(self) -> None:
        beside, together = auto(), auto()
        go(beside, PASSED)
        for step, (student, teacher) in enumerate(PASSED):
            logits, target, labels = batch(step, student=student, teacher=teacher)
            together.loss(logits, labels, target)
            together.step()
        assert stopped_at(beside) == stopped_at(together)

    def test_the_loss_is_that_of_a_fixed_stop_until_then(self) -> None:
        losses = []
        for distiller in (auto(), Distiller(Echo(), total_steps=TOTAL, stop=1.0)):
            logits, target, labels = batch(0, student=1.0, teacher=2.0)
            losses.append(distiller(F.cross_entropy(logits, labels), logits, target, labels=labels))
        assert torch.equal(*losses)

    def test_whatever_the_distillation_loss(self) -> None:
        steps = set()
        for loss in ("kl", "mse", "dkd", "reverse_kl"):
            distiller = auto(loss=loss, temperature=2.0)
            go(distiller, PASSED)
            steps.add(stopped_at(distiller).step)
        assert len(steps) == 1

    def test_going_back_begins_anew(self) -> None:
        distiller = auto()
        go(distiller, WRONG[:20])
        distiller.current_step = 0
        fresh = auto()
        go(distiller, PASSED)
        go(fresh, PASSED)
        assert stopped_at(distiller) == stopped_at(fresh)

    def test_several_heads(self) -> None:
        distiller = auto(Pair())
        for step in range(TOTAL):
            logits, target, labels = batch(step, student=1.0, teacher=-3.0)
            both = {"start": logits, "end": logits}
            distiller(F.cross_entropy(logits, labels), both, target, labels={"start": labels, "end": labels})
            distiller.step()
        alone = auto()
        go(alone, WRONG)
        assert stopped_at(distiller).step == stopped_at(alone).step


class Pair(nn.Module):
    def forward(self, logits: Tensor) -> dict[str, Tensor]:
        return {"start": logits, "end": logits}


class Part(TargetSource):
    """Targets that are no whole logits."""

    name, sparse = "cached", True

    def targets(self, inputs: Tensor, keys: Keys | None) -> Target:
        return top_k_target(torch.zeros(len(inputs), CLASSES), 2, 4.0)

    def to(self, device: torch.device) -> None:
        pass

    def check(self, use: Use) -> None:
        pass


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"stop": "automatic"}, "stop='automatic' is neither a fraction of training nor 'auto'"),
            ({"stop": 0.4, "cap": 0.6}, "cap=0.6 goes with stop='auto'; with a fixed stop=0.4 leave it out"),
            ({"stop": "auto", "cap": 1.4}, "stop=1.4 is outside"),
            ({"stop": "auto", "warmup": 1.0}, r"warmup=1.0 is outside \[0, 1\)"),
            ({"stop": "auto", "head": "labels"}, "probabilities of classes, and head='labels' has none; set a fixed"),
            ({"stop": "auto", "head": "values", "loss": "mse"}, "head='values' has none"),
        ],
    )
    def test_when_it_is_made(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(HeadstartError, match=message):
            Distiller(Echo(), total_steps=10, **options)

    def test_targets_that_hold_a_part_of_the_logits(self) -> None:
        with pytest.raises(HeadstartError, match="cached: stop='auto' needs all of a teacher's logits"):
            auto(Part())

    def test_a_batch_without_labels(self) -> None:
        logits, target, labels = batch(0, student=1.0, teacher=1.0)
        with pytest.raises(HeadstartError, match=r"none: call distiller\(.*labels=labels\), or set a fixed stop"):
            auto()(F.cross_entropy(logits, labels), logits, target)


def test_processes_agree_at_each_open_step_whatever_they_have_to_distil(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed: dict[int, list[int]] = {0: [], 1: []}
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    for rank, steps in agreed.items():
        distiller = auto(cap=0.1)
        monkeypatch.setattr(distributed, "all_reduce", lambda *_, **__: steps.append(distiller.current_step))  # noqa: B023
        for step in range(TOTAL // 5):
            if rank == 0 or step % 3 == 0:
                go(distiller, GOOD[:1])
            else:
                distiller.step()
    assert agreed[0] == agreed[1] == sorted(2 * list(range(TOTAL // 10)))
