"""The Distiller inside Lightning's Trainer."""

from __future__ import annotations

import importlib
import math
import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor

from headstart.adapters.waiting import Teachers, WaitingDistiller
from headstart.distill import Distiller
from headstart.errors import HeadstartError

if TYPE_CHECKING:
    import lightning as L
    from lightning.pytorch.callbacks import Callback
else:

    def _callback_class() -> type:
        """The class of callbacks that the program's Trainer knows: Lightning goes by two names, with classes of each.

        Those are the bases that are loaded already, or else the one that is installed.
        """
        names = ("lightning.pytorch", "pytorch_lightning")
        loaded = [name for name in names if name in sys.modules]
        for name in names if not loaded else ():
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as missing:
                if name == names[-1] or not name.startswith(missing.name or " "):
                    raise
            else:
                loaded = [name]
                break
        bases = tuple(importlib.import_module(f"{name}.callbacks").Callback for name in loaded)
        return type("Callback", bases, {"__module__": bases[0].__module__})

    Callback = _callback_class()

_STATE = "headstart"  # in the checkpoint


class DistillCallback(Callback):
    """Brings teachers to a Trainer; `distill` in the training step asks them.

    It counts the optimiser's steps as the Trainer does, puts teachers into the precision that the Trainer trains in
    unless they have one of their own, and keeps the Distiller's state in the Trainer's checkpoints.

    Args:
        teachers: As in `Distiller`.
        **options: The other arguments of `Distiller`; `total_steps` is the Trainer's own number.

    Attributes:
        distiller: The Distiller, from the start of training on.

    Raises:
        HeadstartError: A wrong option. When fitting: a second such callback, a training without end, manual
            optimisation, or a training that begins anew after the window has closed in another.
        TeacherError: A teacher that cannot be used. When fitting: one that is the student.

    Example:
        >>> import lightning as L
        >>> from torch import nn
        >>> trainer = L.Trainer(callbacks=[DistillCallback(nn.Linear(2, 3), stop=0.4)], logger=False, barebones=True)
    """

    def __init__(self, teachers: Teachers, **options: Any) -> None:
        self.distiller: Distiller | None = None
        self._waiting: WaitingDistiller | None = WaitingDistiller(teachers, options)
        self._state: dict[str, Any] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be meant."""
        if len(_callbacks(trainer)) > 1:
            raise HeadstartError("the Trainer has a DistillCallback twice; give all teachers to one of them")
        if stage == "fit" and not pl_module.automatic_optimization:
            raise HeadstartError(
                "manual optimisation: the Trainer's global_step counts the steps of each optimizer there, so that the "
                "window would be another part of training; make a Distiller in the module, with total_steps= the "
                "number of batches, and call its step() after each batch, or set automatic_optimization=True"
            )
        if self._waiting is not None:
            self._waiting.check_student(pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the Distiller, now that the number of steps is known; a later `fit` goes on with it.

        Once the window has closed the teachers are gone, and it stays closed, however long a later `fit` is.
        """
        steps = _total_steps(trainer)
        if not 0 < steps < float("inf"):
            raise HeadstartError(
                "the training has no end, so the window is a part of nothing; give Trainer(max_steps=)"
            )
        if self._waiting is None:
            if self.distiller is not None:
                _go_on(self.distiller, trainer.global_step, int(steps))
            return
        for teacher in self._waiting.pool.live:
            if teacher.dtype is None and teacher.autocast is None:
                trainer.precision_plugin.convert_module(teacher.module)
        self.distiller, self._waiting = self._waiting.start(total_steps=int(steps), state=self._state), None

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Follow the Trainer's count of steps."""
        if self.distiller is not None:
            self.distiller.current_step = trainer.global_step

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the Distiller's state in; no teacher's weights are part of it."""
        if self.distiller is not None:
            self.distiller.current_step = trainer.global_step  # all processes save, and agree on the step's end
            checkpoint[_STATE] = self.distiller.state_dict()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the Distiller's state out."""
        self._state = checkpoint.get(_STATE)


def distill(
    module: L.LightningModule, loss: Tensor, logits: Tensor, inputs: Any, *, labels: Tensor | None = None
) -> Tensor:
    """What a `training_step` returns: the task loss, with the distillation loss where the step is distilled.

    Args:
        module: The LightningModule. If its Trainer has no `DistillCallback`, the task loss comes back.
        loss: The task loss; it and the other arguments are those of a Distiller's call.
        logits: The student's, `[..., classes]`.
        inputs: What the student was given.
        labels: `[...]` of int64.
    """
    distiller = next((callback.distiller for callback in _callbacks(module.trainer)), None)
    if distiller is None or not module.trainer.training:  # an evaluation may have gradients on
        return loss
    return distiller(loss, logits, inputs, labels=labels)


def _go_on(distiller: Distiller, step: int, total_steps: int) -> None:
    """Have a Distiller go on in a further training."""
    if not distiller.closed:
        distiller.total_steps = total_steps
    elif step < distiller.current_step:
        raise HeadstartError(
            "this DistillCallback's teachers were let go when its window closed in an earlier fit, and this one begins "
            "anew; give it a DistillCallback of its own"
        )


def _total_steps(trainer: L.Trainer) -> float:
    """The optimiser's steps, where the Trainer's own estimate takes the first epoch's accumulation for that of all."""
    steps: float = trainer.estimated_stepping_batches
    found: Any = trainer.callbacks  # type: ignore[attr-defined]
    scheduler: Any = next((callback for callback in found if hasattr(callback, "get_accumulate_grad_batches")), None)
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if scheduler is None or epochs is None or epochs < 0 or not math.isfinite(batches):
        return steps
    total: int = sum(
        math.ceil(batches / scheduler.get_accumulate_grad_batches(epoch)) for epoch in range(max(epochs, 1))
    )
    return total if trainer.max_steps < 0 else min(total, trainer.max_steps)


def _callbacks(trainer: L.Trainer) -> list[DistillCallback]:
    found = trainer.callbacks  # type: ignore[attr-defined]  # set by a part of the Trainer
    return [callback for callback in found if isinstance(callback, DistillCallback)]
