"""What one step does: micro-batches, teachers that do not fit, and that they are let go."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart.distill import Teacher, dkd
from headstart.errors import RecipeError, TeacherError
from headstart.tasks.images import task as image_task
from headstart.teachers import load_teacher
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, write_images, write_run

LOSSES = (None, "kl", "reverse_kl", "jsd", "mse", "dkd")


@pytest.fixture
def without_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student whose output for an image does not depend on the other images of its batch."""

    def build(*_: Any, classes: int, **__: Any) -> nn.Module:
        convolution = nn.Conv2d(1, 6, 3, padding=1)
        return nn.Sequential(convolution, nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(24, classes))

    monkeypatch.setattr(image_task, "build_model", build)


def weights_after_training(recipe: Any) -> dict[str, torch.Tensor]:
    session = Session(recipe)
    for step in range(session.total_steps):
        session.train_step(step)
    return {name: value.clone() for name, value in session.student.state_dict().items()}


@pytest.mark.usefixtures("without_batch_norm")
@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("loss", LOSSES)  # dist correlates across a batch, so that it depends on how it is cut
def test_micro_batches_train_like_the_undivided_batch(
    loss: str | None, accumulate: int, tiny_data: Path, teachers: list[str]
) -> None:
    distill = {"teachers": teachers, "loss": loss} if loss else None
    one, cut = (
        weights_after_training(tiny_recipe(tiny_data, train__accumulate=parts, distill=distill))
        for parts in (1, accumulate)
    )
    # The same sum in another order: float32 rounding, over 12 steps.
    for name, value in one.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-4, atol=2e-5)


def test_the_loss_told_is_the_mean_over_micro_batches(tiny_data: Path) -> None:
    session = Session(tiny_recipe(tiny_data, train__accumulate=2))
    parts = [session.task.batch(0, 24, part=part, parts=2) for part in range(2)]
    session.model.train()
    with torch.no_grad():
        expected = sum(float(session.task.loss(session.model(part.inputs), part)) for part in parts) / 2
    assert float(Session(tiny_recipe(tiny_data, train__accumulate=2)).train_step(0)) == pytest.approx(expected)


def test_clipping_bounds_the_step(tiny_data: Path) -> None:
    settings = {"train__momentum": 0.0, "train__weight_decay": 0.0, "train__schedule": "linear", "train__warmup": 0.0}
    session = Session(tiny_recipe(tiny_data, train__clip_norm=0.01, **settings))
    before = [p.detach().clone() for p in session.model.parameters()]
    session.train_step(0)
    moved = [(p.detach() - old).flatten() for p, old in zip(session.model.parameters(), before, strict=True)]
    assert float(torch.cat(moved).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_teacher_of_other_classes_is_refused_before_the_first_step(tiny_data: Path, tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher", classes=5)
    recipe = tiny_recipe(tiny_data, distill={"teachers": [str(teacher)], "start": 0.9, "stop": 1.0})
    with pytest.raises(TeacherError, match=r"teacher '.*teacher' has 5 classes, the student 3; both must be"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_teacher_of_other_channels_is_refused_before_the_first_step(tiny_data: Path, tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    with pytest.raises(TeacherError, match="teacher takes images of 3 channels, the student's have 1"):
        Session(tiny_recipe(tiny_data, distill={"teachers": [str(teacher)]}))


@pytest.mark.parametrize(
    ("distill", "error", "message"),
    [
        ({"draw": 3}, RecipeError, "draw=3 must be a number from 1 to 2"),
        ({"weights": [1.0]}, RecipeError, r"weights=\[1.0\] must be 2 positive numbers, one per teacher"),
        ({"teachers": ["no-such-run"]}, TeacherError, "no-such-run: no such run folder or file"),
    ],
)
def test_teachers_that_do_not_fit_the_recipe_are_refused(
    distill: dict[str, Any], error: type[Exception], message: str, tiny_data: Path, teachers: list[str]
) -> None:
    with pytest.raises(error, match=message):
        Session(tiny_recipe(tiny_data, distill={"teachers": teachers, **distill}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 121}, "train.batch_size=121 is more than the 120 training samples"),
        ({"epochs": 0.05, "steps": None}, r"train.epochs=0.05 is less than one step of 24 samples"),
    ],
)
def test_a_budget_without_a_step_is_refused(settings: dict[str, Any], message: str, tiny_data: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        Session(tiny_recipe(tiny_data, **{f"train__{key}": value for key, value in settings.items()}))


def test_epochs_are_passes_over_full_batches(tiny_data: Path) -> None:
    for epochs, batch_size, steps in ((2, 24, 10), (0.5, 24, 2), (3, 50, 6)):
        recipe = tiny_recipe(tiny_data, train__epochs=epochs, train__steps=None, train__batch_size=batch_size)
        assert Session(recipe).total_steps == steps


def test_teachers_are_freed_when_the_window_has_closed(
    tiny_data: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    modules: list[weakref.ref[nn.Module]] = []

    def load(*arguments: Any, **options: Any) -> Teacher:
        teacher = load_teacher(*arguments, **options)
        modules.append(weakref.ref(teacher.module))
        return teacher

    monkeypatch.setattr("headstart.train.setup.load_pool.load_teacher", load)
    session = Session(tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 0.25}))
    for step in range(3):
        assert session.pool is not None
        session.train_step(step)
    gc.collect()
    assert session.pool is None
    assert len(modules) == 2 and [module() for module in modules] == [None, None]


def test_precision_of_one_run_does_not_bind_the_next(tiny_data: Path) -> None:
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
        session = Session(tiny_recipe(tiny_data, train__precision=precision))
        inside: list[torch.dtype] = []
        linear = session.student.get_submodule("linear")
        linear.register_forward_hook(lambda _, __, output, seen=inside: seen.append(output.dtype))
        session.train_step(0)
        assert inside == [dtype]


@pytest.mark.parametrize("by_itself", [{"stop": "auto", "cap": 1.0}, {"open_at": 1e-6}])
def test_mixtures_are_judged_by_both_labels(by_itself: dict[str, Any], tmp_path: Path) -> None:
    images, teacher = write_images(tmp_path / "data"), write_run(tmp_path / "old")
    recipe = tiny_recipe(
        images, data__augment={"mixup": 1.0}, distill={"teachers": [str(teacher)], **by_itself}, train__warmup=0.0
    )
    session = Session(recipe)
    batch = session.batch(0)
    assert batch.mixed is not None and session.distiller is not None
    p = session.model.train()(batch.inputs).detach().softmax(-1)
    one, other = (F.one_hot(labels, p.shape[-1]) for labels in (batch.labels, batch.mixed.labels))
    share = torch.as_tensor(batch.mixed.share).reshape(-1, 1)
    brier = (p - share * one - (1 - share) * other).square().sum(-1)
    loss = session._loss(0, 0, None)
    when = session.distiller._when
    seen = when.opening._step if when.opening is not None else when.automatic._step[[0, 4]]  # type: ignore
    assert loss.requires_grad and seen is not None
    torch.testing.assert_close(seen, torch.stack([torch.tensor(float(len(p))), brier.sum()]), rtol=1e-3, atol=0)


def test_dkd_of_mixtures_takes_both_labels(tmp_path: Path) -> None:
    images = write_images(tmp_path / "data")
    teacher = write_run(tmp_path / "old")
    recipe = tiny_recipe(images, data__augment={"mixup": 1.0}, distill={"teachers": [str(teacher)], "loss": "dkd"})
    session = Session(recipe)
    batch = session.batch(0)
    assert batch.mixed is not None and session.pool is not None
    own, other = session.model.train()(batch.inputs).detach(), session.pool.live[0].logits(batch.inputs)
    first, second = (dkd(own, other, temperature=4.0, labels=labels) for labels in (batch.labels, batch.mixed.labels))
    session.train_step(0)
    assert session.distiller is not None and session.distiller.last is not None
    expected = (batch.mixed.share * first + (1 - batch.mixed.share) * second).mean()
    assert session.distiller.last.distill_loss == pytest.approx(expected.item(), rel=1e-3)
