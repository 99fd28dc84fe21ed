"""The Distiller in Lightning: precision, DDP, checkpoints, being out of the way, and the messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="needs lightning: pip install headstart[lightning]")
pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import distributed

from headstart.adapters.lightning import DistillCallback
from headstart.distill import Teacher
from headstart.errors import HeadstartError, TeacherError
from tests.adapters.loops import EPOCHS, STEPS, STOPPED, LitClassifier, Training, lightning, lightning_trainer


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path, {"stop": 0.75})


def fit(training: Training, *callbacks: L.Callback, **changes: Any) -> LitClassifier:
    module = LitClassifier(training.student())
    lightning_trainer(training.folder, *callbacks, **changes).fit(module, training.batches())
    return module


@pytest.fixture
def _process_group() -> Iterator[None]:
    """Lightning makes one, says so in the environment, and leaves both."""
    before = dict(os.environ)
    yield
    distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("_process_group")
def test_ddp_trains_to_the_same_weights(training: Training) -> None:
    weights = lightning(training, strategy="ddp", devices=1, use_distributed_sampler=False)
    torch.testing.assert_close(weights, lightning(training), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16), ("64-true", torch.float64)],
)
def test_teachers_follow_the_precision(precision: str, dtype: torch.dtype, training: Training) -> None:
    """A plugin's autocast is on when they are asked, and where it converts the student it converts them."""
    (teacher, *_) = training.teachers()
    outputs = []
    teacher.register_forward_hook(lambda _, __, output: outputs.append(output["logits"].dtype))
    callback = DistillCallback(teacher, stop=0.5)
    fit(training, callback, precision=precision)
    assert next(teacher.parameters()).dtype == dtype
    assert set(outputs) == {torch.float64 if precision == "64-true" else torch.bfloat16}
    assert callback.distiller is not None and callback.distiller.last is not None
    assert callback.distiller.last.distill_loss > 0


def test_a_teacher_with_a_precision_of_its_own_keeps_it(training: Training) -> None:
    (module, *_) = training.teachers()
    fit(training, DistillCallback(Teacher(module, dtype=torch.float32)), precision="bf16-true", max_epochs=1)
    assert next(module.parameters()).dtype == torch.float32


def test_without_the_callback_the_task_loss_is_returned(training: Training) -> None:
    stock = fit(training).student.state_dict()
    closed = fit(training, DistillCallback(training.teachers(), stop=0.0)).student.state_dict()
    torch.testing.assert_close(closed, stock, rtol=0, atol=0)


def test_validation_asks_no_teacher(training: Training) -> None:
    (teacher, *_) = training.teachers()
    asked = []
    teacher.register_forward_hook(lambda *_: asked.append(1))
    callback = DistillCallback(teacher, stop=1.0)
    trainer = lightning_trainer(training.folder, callback, max_steps=2, num_sanity_val_steps=1)
    module = LitClassifier(training.student())
    trainer.fit(module, training.batches(), training.batches())
    assert len(asked) == 4  # two steps of two micro-batches
    trainer.validate(module, training.batches(), verbose=False)
    assert len(asked) == 4


def test_checkpoints_hold_the_state(training: Training) -> None:
    lightning(training, stop=True)
    checkpoint = torch.load(training.folder / "state.ckpt", weights_only=False)
    assert checkpoint["headstart"] == {"current_step": STOPPED}
    assert set(checkpoint["state_dict"]) == {f"student.{name}" for name in training.student().state_dict()}


def test_counts_the_steps_of_all_epochs(training: Training) -> None:
    callback = DistillCallback(training.teachers())
    fit(training, callback)
    assert callback.distiller is not None
    assert callback.distiller.total_steps == STEPS


def test_counts_the_steps_where_accumulation_changes(training: Training) -> None:
    callback = DistillCallback(training.teachers())
    trainer = lightning_trainer(
        training.folder, callback, GradientAccumulationScheduler({0: 1, 2: 2}), accumulate_grad_batches=1
    )
    trainer.fit(LitClassifier(training.student()), training.batches())
    assert callback.distiller is not None
    assert callback.distiller.total_steps == trainer.global_step == STEPS // 2 * 2 + STEPS // 2


def test_a_longer_fit_has_a_longer_window(training: Training) -> None:
    callback = DistillCallback(training.teachers(), stop=1.0)
    module, trainer = LitClassifier(training.student()), lightning_trainer(training.folder, callback)
    trainer.fit(module, training.batches())
    trainer.fit_loop.max_epochs = 2 * EPOCHS
    trainer.fit(module, training.batches())
    assert callback.distiller is not None and callback.distiller.last is not None
    assert (callback.distiller.total_steps, callback.distiller.last.step) == (2 * STEPS, 2 * STEPS - 1)


def test_validation_with_gradients_asks_no_teacher(training: Training) -> None:
    class Curious(LitClassifier):
        def validation_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            with torch.enable_grad():
                return self.training_step(batch)

    (teacher, *_) = training.teachers()
    asked = []
    teacher.register_forward_hook(lambda *_: asked.append(1))
    trainer = lightning_trainer(
        training.folder, DistillCallback(teacher, stop=1.0), max_steps=2, val_check_interval=1, inference_mode=False
    )
    trainer.fit(Curious(training.student()), training.batches(), training.batches())
    assert len(asked) == 4  # two steps of two micro-batches


class TestMessages:
    """What is wrong, where, and what to do."""

    def test_of_two_callbacks(self, training: Training) -> None:
        twice = [DistillCallback(teacher) for teacher in training.teachers()[:2]]
        with pytest.raises(HeadstartError, match="has a DistillCallback twice; give all teachers to one of them"):
            fit(training, *twice)

    def test_of_a_teacher_that_is_the_student(self, training: Training) -> None:
        student = training.student()
        trainer = lightning_trainer(training.folder, DistillCallback(student))
        with pytest.raises(TeacherError, match="'Classifier' is the student itself"):
            trainer.fit(LitClassifier(student), training.batches())

    def test_of_a_training_without_end(self, training: Training) -> None:
        with pytest.raises(HeadstartError, match=r"the training has no end.*give Trainer\(max_steps="):
            fit(training, DistillCallback(training.teachers()), max_epochs=-1)

    def test_of_a_wrong_option_comes_before_training(self, training: Training) -> None:
        with pytest.raises(HeadstartError, match="weight=2 is outside"):
            DistillCallback(training.teachers(), weight=2)

    def test_of_manual_optimisation_comes_before_the_first_step(self, training: Training) -> None:
        """Its steps are those of each optimizer, so that the window would be another part."""
        module = LitClassifier(training.student())
        module.automatic_optimization = False
        callback = DistillCallback(training.teachers(), stop=0.5)
        trainer = lightning_trainer(training.folder, callback, accumulate_grad_batches=1)
        with pytest.raises(HeadstartError, match="manual optimisation: the Trainer's global_step counts"):
            trainer.fit(module, training.batches())
        assert trainer.global_step == 0

    def test_of_a_layer_that_is_shared(self, training: Training) -> None:
        student, (teacher, *_) = training.student(), training.teachers()
        student.layers[0] = teacher.layers[0]
        with pytest.raises(
            TeacherError, match=r"shares layers.0.weight, layers.0.bias with the student.*copy.deepcopy"
        ):
            lightning_trainer(training.folder, DistillCallback(teacher)).fit(LitClassifier(student), training.batches())

    def test_of_a_fit_that_begins_anew_after_the_window(self, training: Training) -> None:
        callback = DistillCallback(training.teachers(), stop=0.5)
        fit(training, callback)
        with pytest.raises(HeadstartError, match="give it a DistillCallback of its own"):
            fit(training, callback)


def test_a_longer_fit_after_the_window_trains_on_without_teachers(training: Training) -> None:
    asked = []
    (teacher, *_) = training.teachers()
    teacher.register_forward_hook(lambda *_: asked.append(1))
    callback = DistillCallback(teacher, stop=0.5)
    module, trainer = LitClassifier(training.student()), lightning_trainer(training.folder, callback)
    trainer.fit(module, training.batches())
    first = len(asked)
    trainer.fit_loop.max_epochs = 4 * EPOCHS
    trainer.fit(module, training.batches())
    assert trainer.global_step == 4 * STEPS and len(asked) == first > 0


def test_the_other_package_of_lightning(training: Training) -> None:
    """`import pytorch_lightning as pl`, whose classes are others."""
    other: Any = pytest.importorskip("pytorch_lightning")

    class Module(other.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.student = training.student()

        training_step = LitClassifier.training_step
        configure_optimizers = LitClassifier.configure_optimizers

    callback = DistillCallback(training.teachers(), stop=0.5)
    quiet = {name: False for name in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")}
    other.Trainer(accelerator="cpu", max_steps=4, callbacks=[callback], **quiet).fit(Module(), training.batches())
    assert callback.distiller is not None and callback.distiller.last is not None
    assert (callback.distiller.total_steps, callback.distiller.last.step) == (4, 1)
