"""The Distiller inside the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from headstart.adapters.rows import is_causal, labels_of, logits_of
from headstart.adapters.waiting import Teachers, WaitingDistiller
from headstart.distill import Distiller
from headstart.errors import HeadstartError

_STATE = "headstart"  # among the callbacks' states in trainer_state.json


class DistillTrainer(Trainer):
    """The Trainer, distilling. One of your own distils too, behind it: `class Mine(DistillTrainer, MyTrainer)`.

    The task loss is what that Trainer makes of it, and the distillation loss is scaled for gradient accumulation as the
    task loss is. Of causal models the prediction of the next token is distilled. Rows labelled -100 (padding, prompts,
    tokens that are not masked) are left out. Evaluation, and steps that are not distilled, are that Trainer's own.

    Args:
        *args: The Trainer's, as are all others but these two.
        teachers: As in `Distiller`; they are given what the student is, without the labels. By default none.
        distill: The other arguments of `Distiller`; `total_steps` is the Trainer's own number.

    Attributes:
        distiller: The Distiller, from the first training step on.

    Raises:
        HeadstartError: A wrong option, or several GPUs in one process. While training: no logits, or a `compute_loss`
            that passes this one by.
        TeacherError: A teacher that cannot be used, or that is the student.
    """

    distiller: Distiller | None = None

    def __init__(
        self, *args: Any, teachers: Teachers | None = None, distill: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        student: Any = self.model
        self._causal = is_causal(student)
        self._waiting = WaitingDistiller(teachers, distill or {}) if teachers is not None else None
        if self._waiting is not None:
            self._waiting.check_student(student)
            self._check_devices()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's loss, and with it the distillation loss where the present step is distilled."""
        distiller = self._distiller_now() if torch.is_grad_enabled() else None
        if distiller is None or not distiller.active:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = labels_of(inputs, causal=self._causal)  # now, as the Trainer may take them out of the inputs
        labelled = "labels" in inputs
        given = {name: value for name, value in inputs.items() if name not in (*self.label_names, "shift_labels")}
        with self.accelerator.autocast():  # which the Trainer puts around the student's forward alone
            distiller.prefetch(given)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        taken_out = labelled and "labels" not in inputs  # the model was not given them, so it gave no loss
        with self.accelerator.autocast():
            items, logits = self._num_items(num_items_in_batch), logits_of(outputs, after_loss=not taken_out)
            loss = distiller(loss, logits, given, labels=labels, num_items=items)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The Trainer's own, refused where it would silently not distil."""
        loss = super().training_step(*args, **kwargs)
        if self._waiting is not None:
            raise HeadstartError(
                f"{type(self).__name__} does not reach DistillTrainer.compute_loss, so nothing is distilled; have its "
                "own compute_loss call super().compute_loss, or put the class that has it behind DistillTrainer"
            )
        return loss

    def _check_devices(self) -> None:
        # nn.DataParallel gives a loss for each GPU. The Trainer multiplies these by their number, which is right for
        # models that divide by num_items_in_batch and wrong for those that ignore it; from outside both look alike.
        if (count := self.args.n_gpu) > 1:
            raise HeadstartError(
                f"one process has {count} GPUs, which the Trainer shares out by nn.DataParallel; how much the task "
                "loss weighs there depends on the model, so nothing can be mixed with it rightly. Start a process for "
                f"each GPU (torchrun --nproc-per-node {count} SCRIPT), or show it one (CUDA_VISIBLE_DEVICES=0)"
            )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.distiller is not None:
            states: Any = self.state.stateful_callbacks
            states[_STATE] = {"args": {}, "attributes": self.distiller.state_dict()}
        super()._save_checkpoint(*args, **kwargs)

    def _distiller_now(self) -> Distiller | None:
        if self._waiting is not None:
            states: Any = self.state.stateful_callbacks
            saved = states.get(_STATE, {}).get("attributes")
            self.distiller, self._waiting = self._waiting.start(total_steps=self.state.max_steps, state=saved), None
        if self.distiller is not None:
            self.distiller.total_steps = self.state.max_steps  # not the same after auto_find_batch_size
            self.distiller.current_step = self.state.global_step
        return self.distiller

    def _num_items(self, num_items_in_batch: Any) -> Any:
        """What divides the sum over rows; None where the Trainer divides by the number of micro-batches itself."""
        if num_items_in_batch is None or getattr(self, "loss_is_scaled_for_ga", None) is False:
            return None
        replicas = self.accelerator.num_processes // self.get_tp_size()  # the mean over them takes this division back
        return num_items_in_batch / (replicas if self.args.average_tokens_across_devices else 1)
