"""A distilled step of the Trainer: its task loss, what that was made of, and the distillation loss beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn

from headstart.adapters.causal import is_causal
from headstart.adapters.loss_scale import Scale
from headstart.adapters.model_head import are_maps, check_labels, head_options, logits_of, loss_in, small_maps
from headstart.adapters.student_logits import Ran, StudentLogits, is_compiled
from headstart.adapters.task_loss import Seen, TaskLoss
from headstart.adapters.teacher_inputs import DecoderInputs
from headstart.adapters.vocabulary import real_tokens, share_tokens
from headstart.distill import Distiller, TeacherPool
from headstart.distill.asking.shared_tokens import first_tokens
from headstart.distill.heads.several import Output
from headstart.errors import HeadstartError

# Where the hooks of a backward belong to the step's only one.
_ONE_BACKWARD = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


class DistilledStep:
    """Computes the losses of a training's distilled steps, and finds out in the first ones what the task loss is.

    Args:
        trainer: The Trainer.
        model: The student, as the Trainer calls it.
        pool: The teachers.
        stock: Whether the task loss is the one that transformers' own Trainer computes.
    """

    def __init__(self, trainer: Any, model: nn.Module, pool: TeacherPool, *, stock: bool) -> None:
        self._trainer, self._model, self._stock = trainer, model, stock
        student = self._student = trainer.accelerator.unwrap_model(model)
        self._logits, self._decoder = StudentLogits(student, logits_of), DecoderInputs(student)
        self._maps = head_options(student).get("class_dim") == 1
        self._tokens = share_tokens(student, pool.live, trainer.processing_class)
        replicas = trainer.accelerator.num_processes // trainer.get_tp_size()
        # By this the Trainer multiplies a loss that it divides by the labels of all processes, whose mean is taken.
        factor = float(replicas) if trainer.args.average_tokens_across_devices else 1.0
        divided = getattr(trainer, "loss_is_scaled_for_ga", None)
        self._task = TaskLoss(
            shifted=is_causal(student),
            scale=Scale(divided is not False, factor),
            divided=divided,
            factors=sorted({1.0, factor}),
            twice=not trainer.args.use_liger_kernel and trainer.accelerator.distributed_type not in _ONE_BACKWARD,
        )

    def loss(
        self,
        compute: Callable[[bool], Any],
        inputs: dict[str, Any],
        for_teachers: Mapping[str, Any],
        *,
        outputs: bool,
        num_items: Any,
    ) -> Any:
        """Both losses.

        Args:
            compute: The task loss: takes whether to return the outputs, too.
            inputs: The batch, as the student is given it.
            for_teachers: What of it only teachers are given.
            outputs: Whether the outputs are wanted.
            num_items: The Trainer's `num_items_in_batch`.

        Returns:
            The loss, or the loss and the outputs.
        """
        distiller: Distiller = self._trainer.distiller
        by_row, labels = "shift_labels" in inputs, self._labels(inputs)
        check_labels(labels)  # now, as the Trainer may take them out of the inputs
        without = {*self._trainer.label_names, "labels", "shift_labels"}
        own = {name: value for name, value in inputs.items() if name not in without}
        given = {**own, **for_teachers}
        if self._stock and len(own) == len(inputs) and self._trainer.compute_loss_func is None:
            compute = self._without_labels(inputs)
        ran = self._run(compute, inputs, own, given, outputs=outputs)
        scale = Scale(num_items is not None, 1.0)
        labels = labels if isinstance(ran.logits, Tensor) else None  # those of several heads are several
        if labels is not None:
            seen = Seen(ran.loss, ran.logits, labels, num_items, ran.inner, by_row)
            labels, found = self._task.read(seen)
            scale = found if num_items is not None else scale
        elif isinstance(ran.logits, Tensor) and not distiller.needs_labels:
            labels = real_tokens(self._student, inputs.get("attention_mask"), ran.logits)
        items = num_items if scale.divided else None
        if labels is not None and (self._maps or are_maps(labels, ran.logits)):
            large, labels = labels.numel(), small_maps(labels, ran.logits)
            items = None if items is None else items * (labels.numel() / large)
        loss = ran.loss if scale.factor == 1.0 else ran.loss / scale.factor
        with self._trainer.accelerator.autocast():
            logits = ran.logits
            if self._tokens is not None:  # of a token that only one side has the other knows nothing
                logits, labels = first_tokens(Output(logits, labels), self._tokens)
            loss = distiller(loss, logits, given, labels=labels, num_items=items)
        loss = loss if scale.factor == 1.0 else loss * scale.factor
        return (loss, ran.outputs) if outputs else loss

    def _run(
        self,
        compute: Callable[[bool], Any],
        inputs: Mapping[str, Any],
        own: Mapping[str, Any],
        given: dict[str, Any],
        *,
        outputs: bool,
    ) -> Ran:
        """The student's part; `given` is completed by what the student makes of the labels for its decoder."""
        labelled = self._labels(inputs) is not None

        def task(ask: bool) -> tuple[Tensor, Any, bool]:
            loss, made = compute(True) if ask else (compute(False), None)
            return loss, made, not labelled or self._labels(inputs) is not None  # without, the model gives no loss

        made_of_labels = self._decoder.missing(inputs)
        kept = self._trainer.label_smoother is not None or self._trainer.compute_loss_func is not None
        ahead = self._decoder.ahead(inputs) if made_of_labels and not kept else None
        if ahead is not None:
            given["decoder_input_ids"] = ahead
        late = made_of_labels and ahead is None
        if late and is_compiled(self._student):
            raise HeadstartError(
                "what the compiled student makes of its labels for its decoder cannot be seen, and the teachers need "
                "it; have the collator give `decoder_input_ids`, or set torch_compile=False"
            )
        if not late:
            with self._trainer.accelerator.autocast():  # which the Trainer puts around the student's forward alone
                self._trainer.distiller.prefetch(given)
        watched: AbstractContextManager[list[Tensor]] = self._decoder.watched() if late else nullcontext([])
        with watched as decoded:
            ran = self._logits.run(task, self._model, own, outputs=outputs)
        if late and not decoded:
            raise HeadstartError(
                "what the student makes of its labels for its decoder was not seen, and the teachers need it; have the "
                "collator give `decoder_input_ids` (DataCollatorForSeq2Seq(tokenizer, model=model) does)"
            )
        if decoded:
            given["decoder_input_ids"] = decoded[0]
        return ran

    def _labels(self, inputs: Mapping[str, Any]) -> Any:
        """Those of the batch, by the name that the Trainer knows; None where it has none, or several."""
        names = self._trainer.label_names
        own = names[0] if len(names) == 1 else "labels"
        return inputs.get("shift_labels", inputs.get("labels", inputs.get(own)))

    def _without_labels(self, inputs: Mapping[str, Any]) -> Callable[[bool], Any]:
        """The loss that the student makes of its inputs alone; 0 where it makes none, and teachers are all there is."""

        def compute(ask: bool) -> Any:
            outputs = self._model(**inputs)
            loss = loss_in(outputs)
            if loss is None:
                self._check_unlabelled()
                loss = torch.zeros((), device=self._trainer.args.device)
            return (loss, outputs) if ask else loss

        return compute

    def _check_unlabelled(self) -> None:
        distiller: Distiller = self._trainer.distiller
        window, steps = distiller.window, distiller.total_steps
        whole = window.distilled_steps(steps) == steps and not (window.ramp_up or window.ramp_down)
        if not whole or distiller.weight != 1.0 or distiller.needs_labels:
            raise HeadstartError(
                "the batch has no labels, so that there is no task loss. Without one, a training takes all it learns "
                "from its teachers, in every step: set distill={'weight': 1.0, 'stop': 1.0}, without start, every, "
                "open_at and ramps"
            )
