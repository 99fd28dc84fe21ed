"""One training in every loop that people have: the same student, teachers, batches and optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headstart import Distiller
from headstart.adapters.lightning import DistillCallback, distill
from headstart.adapters.trainer import DistillTrainer

FEATURES, CLASSES, ROWS, MICRO_BATCH, ACCUMULATE, EPOCHS = 4, 5, 24, 4, 2, 4
EPOCH = ROWS // MICRO_BATCH // ACCUMULATE  # optimiser steps
STEPS = EPOCH * EPOCHS
STOPPED = STEPS // 2  # where a run is killed; a checkpoint is there

Weights = dict[str, Tensor]


class Classifier(nn.Module):
    """A small network with the manners of transformers: named inputs, and a loss where there are labels."""

    accepts_loss_kwargs = True  # which the Trainer asks

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, CLASSES))

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, num_items_in_batch: Tensor | None = None
    ) -> dict[str, Tensor]:
        logits = self.layers(inputs)
        if labels is None:
            return {"logits": logits}
        count = len(labels) if num_items_in_batch is None else num_items_in_batch
        return {"loss": F.cross_entropy(logits, labels, reduction="sum") / count, "logits": logits}


class Rows(Dataset[dict[str, Tensor]]):
    """Random points with random classes."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(ROWS, FEATURES, generator=generator)
        self.labels = torch.randint(CLASSES, (ROWS,), generator=generator)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[index], "labels": self.labels[index]}


@dataclass
class Training:
    """What is trained; its parts are made anew, and the same, for each run."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    accumulate: int = ACCUMULATE

    def student(self) -> Classifier:
        torch.manual_seed(2)
        return Classifier()

    def teachers(self) -> list[Classifier]:
        """Three, much larger than the student, so that a checkpoint with one of them in it is told by its size."""
        torch.manual_seed(3)
        return [Classifier(width=20_000) for _ in range(3)]

    def distiller(self) -> Distiller:
        return Distiller(self.teachers(), total_steps=STEPS, **self.options)

    def batches(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(Rows(), batch_size=MICRO_BATCH)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def plain(training: Training, *, stop: bool = False, resume: bool = False) -> Weights:
    """No framework."""
    model, distiller, checkpoint = training.student(), training.distiller(), training.folder / "state.pt"
    optimizer = sgd(model)
    parts: tuple[Any, ...] = (model, optimizer, distiller)
    if resume:
        for part, state in zip(parts, torch.load(checkpoint), strict=True):
            part.load_state_dict(state)
    for _ in range(distiller.current_step // EPOCH, EPOCHS):
        for index, batch in enumerate(training.batches()):
            outputs = model(**batch)
            loss = distiller(outputs["loss"], outputs["logits"], batch["inputs"], labels=batch["labels"])
            torch.autograd.backward(loss / training.accumulate)
            if index % training.accumulate == training.accumulate - 1:
                optimizer.step()
                optimizer.zero_grad()
                distiller.step()
        if stop and distiller.current_step == STOPPED:
            torch.save([part.state_dict() for part in parts], checkpoint)
            break
    return dict(model.state_dict())


def accelerate(training: Training, *, stop: bool = False, resume: bool = False) -> Weights:
    """Accelerate, which keeps the Distiller's state as it keeps its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerator = Accelerator(gradient_accumulation_steps=training.accumulate)
    student, distiller = training.student(), training.distiller()
    model, optimizer, batches = accelerator.prepare(student, sgd(student), training.batches())
    accelerator.register_for_checkpointing(distiller)
    if resume:
        accelerator.load_state(str(training.folder))
    for _ in range(distiller.current_step // EPOCH, EPOCHS):
        for batch in batches:
            with accelerator.accumulate(model):
                outputs = model(**batch)
                loss = distiller(outputs["loss"], outputs["logits"], batch["inputs"], labels=batch["labels"])
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                if accelerator.sync_gradients:
                    distiller.step()
        if stop and distiller.current_step == STOPPED:
            accelerator.save_state(str(training.folder))
            break
    return dict(student.state_dict())


class _InOrder(DistillTrainer):
    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(Rows())


def trainer_arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Arguments of a quiet Trainer that clips nothing."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    given = {
        "per_device_train_batch_size": MICRO_BATCH,
        "gradient_accumulation_steps": ACCUMULATE,
        "num_train_epochs": EPOCHS,
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
    }
    return TrainingArguments(output_dir=str(folder), **{**given, **changes})


class _Stop(TrainerCallback):
    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_save = control.should_training_stop = state.global_step == STOPPED


def trainer(training: Training, *, stop: bool = False, resume: bool = False) -> Weights:
    """Transformers' Trainer."""
    student = training.student()
    optimizer = sgd(student)
    run = _InOrder(
        student,
        trainer_arguments(training.folder, gradient_accumulation_steps=training.accumulate),
        train_dataset=Rows(),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
        callbacks=[_Stop()] if stop else [],
        teachers=training.teachers(),
        distill=training.options,
    )
    run.train(resume_from_checkpoint=resume)
    return dict(student.state_dict())


class LitClassifier(L.LightningModule):
    """The student as a LightningModule."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        outputs = self.student(**batch)
        return distill(self, outputs["loss"], outputs["logits"], batch["inputs"], labels=batch["labels"])

    def validation_step(self, batch: dict[str, Tensor]) -> Tensor:
        return self.training_step(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.student)


def lightning_trainer(folder: Path, *callbacks: Any, **changes: Any) -> L.Trainer:
    """A quiet Trainer."""
    given = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": EPOCHS,
        "accumulate_grad_batches": ACCUMULATE,
    }
    return L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**given, **changes})


class _Halt(L.Callback):
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == STOPPED:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "state.ckpt")
            trainer.should_stop = True


def lightning(training: Training, *, stop: bool = False, resume: bool = False, **changes: Any) -> Weights:
    """Lightning's Trainer."""
    student = training.student()
    callbacks = [DistillCallback(training.teachers(), **training.options), *([_Halt()] if stop else [])]
    run = lightning_trainer(training.folder, *callbacks, accumulate_grad_batches=training.accumulate, **changes)
    checkpoint = training.folder / "state.ckpt" if resume else None
    run.fit(LitClassifier(student), training.batches(), ckpt_path=checkpoint)
    return dict(student.state_dict())


LOOPS: dict[str, Callable[..., Weights]] = {
    "plain": plain,
    "accelerate": accelerate,
    "trainer": trainer,
    "lightning": lightning,
}
