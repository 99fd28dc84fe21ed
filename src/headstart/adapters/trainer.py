"""The Distiller inside the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from headstart.adapters.class_names import share_class_names
from headstart.adapters.distilled_step import DistilledStep
from headstart.adapters.model_head import check_model, head_options
from headstart.adapters.teacher_inputs import only_for_teachers, takes_any
from headstart.adapters.waiting import Teachers, WaitingDistiller
from headstart.distill import Distiller
from headstart.errors import HeadstartError

_STATE = "headstart"  # among the callbacks' states in trainer_state.json


class DistillTrainer(Trainer):
    """The Trainer, distilling. One of your own distils too, behind it: `class Mine(DistillTrainer, MyTrainer)`.

    The task loss is what that Trainer makes of it, and the distillation loss is scaled for gradient accumulation as the
    task loss is. Of causal models the prediction of the next token is distilled. Rows labelled -100 (padding, prompts,
    tokens that are not masked) are left out. Evaluation, and steps that are not distilled, are that Trainer's own. Each
    `train()` is taught in its own window.

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
        self._step: DistilledStep | None = None  # of the present training
        self._waiting: WaitingDistiller | None = None
        self._for_teachers: dict[str, Any] = {}  # of the present batch
        self._own: set[str] | None = None
        if teachers is not None:
            student: Any = self.model
            told = head_options(student)
            self._waiting = WaitingDistiller(teachers, distill or {}, **told)
            self._waiting.check_student(student)
            share_class_names(student, self._waiting.pool.live, maps=told.get("class_dim") == 1)
            self._check_settings()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own, taught in its window; refused where it would silently not distil."""
        self.distiller = self._step = None
        if self._waiting is not None:
            student: Any = self.model
            check_model(student)
        result = super().train(*args, **kwargs)
        self._check_reached()
        return result

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's loss, and with it the distillation loss where the present step is distilled."""
        distiller = self._distiller_now(inputs) if torch.is_grad_enabled() else None
        if self._waiting is None or distiller is None or not distiller.needs_logits:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._step is None:
            own: Any = super().compute_loss
            stock = own.__func__ is Trainer.compute_loss
            self._step = DistilledStep(self, model, self._waiting.pool, stock=stock)

        def task(outputs: bool) -> Any:
            return super(DistillTrainer, self).compute_loss(model, inputs, outputs, num_items_in_batch)

        return self._step.loss(task, inputs, self._for_teachers, outputs=return_outputs, num_items=num_items_in_batch)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The Trainer's own, refused where it would silently not distil."""
        loss = super().training_step(*args, **kwargs)
        self._check_reached()
        return loss

    def _check_reached(self) -> None:
        if self._waiting is not None and self.distiller is None:
            raise HeadstartError(
                f"{type(self).__name__} does not reach DistillTrainer.compute_loss, so nothing is distilled; have its "
                "own compute_loss call super().compute_loss, or put the class that has it behind DistillTrainer"
            )

    def _check_settings(self) -> None:
        # nn.DataParallel gives a loss for each GPU. The Trainer multiplies these by their number, which is right for
        # models that divide by num_items_in_batch and wrong for those that ignore it; from outside both look alike.
        if (count := self.args.n_gpu) > 1:
            raise HeadstartError(
                f"one process has {count} GPUs, which the Trainer shares out by nn.DataParallel; how much the task "
                "loss weighs there depends on the model, so nothing can be mixed with it rightly. Start a process for "
                f"each GPU (torchrun --nproc-per-node {count} SCRIPT), or show it one (CUDA_VISIBLE_DEVICES=0)"
            )
        if self.args.use_liger_kernel and (self.args.liger_kernel_config or {}).get("cross_entropy"):
            raise HeadstartError(
                "liger_kernel_config={'cross_entropy': True} writes the task loss's gradient over the logits, which "
                "are then none to distil; leave it out (Liger's default, fused_linear_cross_entropy, is fine)"
            )

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the columns that a teacher takes, too."""
        known = self._signature_columns is not None
        super()._set_signature_columns_if_needed()
        if not known:
            columns: Any = self._signature_columns
            columns += sorted(self._teachers_own())

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Take out of a batch what only teachers are given."""
        prepared = super()._prepare_inputs(inputs)
        own = self._teachers_own() & set(prepared)
        self._for_teachers = {name: prepared[name] for name in own}
        return {name: value for name, value in prepared.items() if name not in own} if own else prepared

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.distiller is not None:
            self.distiller.current_step = self.state.global_step  # all processes save, and agree on the step's end
            states: Any = self.state.stateful_callbacks
            states[_STATE] = {"args": {}, "attributes": self.distiller.state_dict()}
        super()._save_checkpoint(*args, **kwargs)

    def _distiller_now(self, inputs: Mapping[str, Any]) -> Distiller | None:
        if self._waiting is None:
            return None
        step = self.state.global_step
        if self.distiller is None or step < self.distiller.current_step:  # a batch size that did not fit begins anew
            states: Any = self.state.stateful_callbacks
            saved = states.get(_STATE, {}).get("attributes")
            told = {**head_options(self.model, inputs.get("labels")), "warmup": self._warmup()}
            self.distiller = self._waiting.start(total_steps=self.state.max_steps, state=saved, **told)
        self.distiller.total_steps = self.state.max_steps
        self.distiller.current_step = step
        if self.distiller.closed:
            self._waiting.rest()
        return self.distiller

    def _warmup(self) -> float:
        """The fraction of training in which the learning rate rises."""
        steps = max(1, self.state.max_steps)
        return min(float(self.args.get_warmup_steps(steps)) / steps, 0.99)

    def _teachers_own(self) -> set[str]:
        """The inputs that only teachers take; where the Trainer drops no columns, a student may take any."""
        if self._own is None:
            student: Any = self.model
            takes_others = not self.args.remove_unused_columns and takes_any(student)
            teachers = [] if takes_others or self._waiting is None else self._waiting.pool.live
            self._own = only_for_teachers(student, [teacher.module for teacher in teachers])
        return self._own
