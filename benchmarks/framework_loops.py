"""Distilling steps in frameworks, each timed against the same step written by hand in that framework."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import torch
from overhead import check_same_loss
from overhead_steps import TEMPERATURE, TOTAL_STEPS, WEIGHT, Work, in_bf16
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from headstart import Distiller
from headstart.train.costs.clock import Clock
from step_times import WARM_UP, no_garbage_collection, paired_ratios

OPTIONS: dict[str, Any] = {"stop": 1.0, "temperature": TEMPERATURE, "weight": WEIGHT}


def added_by_hand(task: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """The task loss, and the distillation loss as one writes it down."""
    log_q = F.log_softmax(logits.float() / TEMPERATURE, dim=-1)
    p = F.softmax(targets.float() / TEMPERATURE, dim=-1)
    return (1.0 - WEIGHT) * task + WEIGHT * TEMPERATURE**2 * F.kl_div(log_q, p, reduction="batchmean")


def accelerate_ratios(work: Work, pairs: int) -> list[float]:
    """A loop on Accelerate, which itself wraps the student's forward in autocast."""
    from accelerate import Accelerator

    accelerator = Accelerator(
        mixed_precision="bf16" if in_bf16(work.images.device) else "no", cpu=work.images.device.type == "cpu"
    )
    student, optimizer = accelerator.prepare(bare(work.student), work.optimizer)
    teacher = bare(work.teacher)
    distiller = Distiller(teacher, total_steps=TOTAL_STEPS, **OPTIONS)

    def update(loss: Tensor) -> Tensor:
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def ours() -> Tensor:
        logits = student(work.images)
        loss = F.cross_entropy(logits, work.labels)
        with accelerator.autocast():
            loss = distiller(loss, logits, work.images)
        loss = update(loss)
        distiller.step()
        return loss

    def by_hand() -> Tensor:
        logits = student(work.images)
        with torch.no_grad(), accelerator.autocast():
            targets = teacher(work.images)
        return update(added_by_hand(F.cross_entropy(logits, work.labels), logits, targets))

    check_same_loss("accelerate", ours, by_hand)
    return paired_ratios(ours, by_hand, pairs=pairs, device=work.images.device)


class Turns:
    """Which kind of step is whose turn in a training that makes both, in ABBA order, and what they take.

    Args:
        pairs: Of steps that count; some more come before them.
        device: Waited for before and after each step.
    """

    def __init__(self, pairs: int, device: torch.device) -> None:
        self.steps = 2 * (pairs + WARM_UP)
        self._device = device
        self._seconds: list[float] = []
        self._losses: dict[bool, float] = {}

    @property
    def ours(self) -> bool:
        """Whether the present step is the adapter's."""
        return len(self._seconds) % 4 in (0, 3)

    def begin(self) -> None:
        """Start the clock."""
        self._clock = Clock(self._device)
        self._clock.start()

    def end(self) -> None:
        """Stop the clock."""
        self._clock.stop()
        self._seconds.append(self._clock.seconds)

    def made(self, loss: Tensor) -> Tensor:
        """Note the first loss of each kind; reading it later would wait for the device in the middle of a step."""
        if len(self._seconds) < 2:
            self._losses[self.ours] = float(loss.detach())
        return loss

    def ratios(self) -> list[float]:
        """Ours over by hand, of each pair that counts.

        Raises:
            ArithmeticError: The two kinds do different work.
        """
        if not math.isclose(self._losses[True], self._losses[False], rel_tol=1e-5):
            raise ArithmeticError(f"the steps do different work, their losses are {self._losses}")
        pairs = zip(self._seconds[::2], self._seconds[1::2], strict=True)
        ratios = [first / second if index % 2 == 0 else second / first for index, (first, second) in enumerate(pairs)]
        return ratios[WARM_UP:]


def trainer_ratios(work: Work, pairs: int) -> list[float]:
    """The Trainer of transformers; its adapter asks the teacher before the student, and so does the step by hand."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from headstart.adapters.trainer import DistillTrainer

    device = work.images.device
    turns, teacher = Turns(pairs, device), bare(work.teacher)

    class Clocked(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.end()

    class InTurn(DistillTrainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            batches: Any = [{"x": work.images, "labels": work.labels}] * turns.steps
            return DataLoader(batches, batch_size=None)

        def compute_loss(self, model: nn.Module, inputs: Any, *given: Any, **named: Any) -> Any:
            if turns.ours:
                return turns.made(super().compute_loss(model, inputs, *given, **named))
            with torch.no_grad(), self.accelerator.autocast():
                targets = teacher(inputs["x"])
            loss, outputs = Trainer.compute_loss(self, model, inputs, return_outputs=True)
            return turns.made(added_by_hand(loss, outputs["logits"], targets))

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=turns.steps,
            bf16=in_bf16(device),
            use_cpu=device.type == "cpu",
            max_grad_norm=0.0,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        constant = torch.optim.lr_scheduler.LambdaLR(work.optimizer, lambda _: 1.0)
        trainer = InTurn(
            _WithLoss(bare(work.student)),
            arguments,
            train_dataset=[{}],
            optimizers=(work.optimizer, constant),
            callbacks=[Clocked()],
            teachers=teacher,
            distill=OPTIONS,
        )
        with no_garbage_collection():
            trainer.train()
    return turns.ratios()


def lightning_ratios(work: Work, pairs: int) -> list[float]:
    """Lightning's Trainer."""
    import lightning as L

    from headstart.adapters.lightning import DistillCallback, distill

    turns, teacher = Turns(pairs, work.images.device), bare(work.teacher)

    class Clocked(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            turns.begin()

        def on_train_batch_end(self, *_: Any) -> None:
            turns.end()

    class InTurn(DistillCallback):
        def on_train_batch_start(self, trainer: L.Trainer, *given: Any) -> None:
            if turns.ours:
                super().on_train_batch_start(trainer, *given)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student = bare(work.student)

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            images, labels = batch
            logits = self.student(images)
            loss = F.cross_entropy(logits, labels)
            if turns.ours:
                return turns.made(distill(self, loss, logits, images))
            with torch.no_grad():
                targets = teacher(images)
            return turns.made(added_by_hand(loss, logits, targets))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return work.optimizer

    trainer = L.Trainer(
        max_steps=turns.steps,
        accelerator=work.images.device.type,
        devices=1,
        precision="bf16-mixed" if in_bf16(work.images.device) else "32-true",
        callbacks=[Clocked(), InTurn(teacher, **OPTIONS)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches: Any = [(work.images, work.labels)] * turns.steps
    with no_garbage_collection():
        trainer.fit(Module(), DataLoader(batches, batch_size=None))
    return turns.ratios()


class _WithLoss(nn.Module):
    """A network with the manners of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(x)
        return {"loss": F.cross_entropy(logits.float(), labels), "logits": logits}


def bare(wrapped: Any) -> Any:
    """A network without the wrapper that chooses its precision, which frameworks do themselves."""
    return wrapped.module
