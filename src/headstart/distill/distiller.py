"""The Distiller: what a training loop calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headstart.distill.asking.ask_teachers import Asked, Asking
from headstart.distill.asking.shared_tokens import first_tokens
from headstart.distill.batch_loss import both_losses, distillation_loss, projected_losses
from headstart.distill.first_look import check_class_dim, ignored_label, refuse_own_tokens, warn_of_sum, warn_of_task
from headstart.distill.fused import fusable, linear_cross_entropy
from headstart.distill.fused.tally import Count
from headstart.distill.heads.head import Head
from headstart.distill.heads.layout import Layout
from headstart.distill.heads.several import Names, Output, Several, outputs_of
from headstart.distill.last_call import LastCall
from headstart.distill.losses import Average, LossFunction, dkd
from headstart.distill.nonfinite import NonFiniteFlags
from headstart.distill.objective import IGNORED, build_objective
from headstart.distill.outside_graphs import outside_graphs
from headstart.distill.pool.pool import TeacherPool, as_pool
from headstart.distill.projection import Projection, as_logits
from headstart.distill.stopping import WARMUP, Opened, Opening, Stopped, automatic_stop, latest_stop
from headstart.distill.targets.source import Keys, TargetSource, Use
from headstart.distill.task_loss import is_class_index, task_loss
from headstart.distill.when import When
from headstart.distill.window import Window
from headstart.errors import HeadstartError, TeacherError


class Distiller:
    """Adds a distillation loss to the task loss while its window is open, and is out of the way otherwise.

    The result is `(1 - w) * task + w * distill` (the paper's form), where w is `weight` times the window's scale and
    `distill` the mean of the loss over rows (images, tokens, pixels), or over outputs where these are no classes.
    Outside the window, off the cadence and where gradients are off, the task loss object comes back unchanged and no
    teacher runs. Once the window has closed for good the teachers are let go.

    Args:
        teachers: A pool, a module, or a list of modules and `Teacher` objects (one is then drawn per step).
        total_steps: Optimiser steps of the whole training; the window's fractions refer to it.
        start: Fraction of training at which distillation begins.
        stop: Fraction at which it ends. Default 0.5; docs/defaults.md has the measurements behind this and the next
            ones. `"auto"`: as soon as the teacher no longer helps, see docs/window.md. That compares student and
            teacher by the labels of classes, so each call has to have them, and targets have to be whole logits.
        every: Distil on every k-th step only; the mean weight in the window is then weight / k.
        ramp_up: Fraction of training over which the weight rises, inside the window.
        ramp_down: Fraction of training over which it falls, inside the window. An automatic stop that comes before the
            cap ends in a ramp of 0.01 at least.
        cap: With `stop="auto"`, the fraction at which distillation ends at the latest; by default 0.5, where a fixed
            stop does.
        warmup: With `stop="auto"`, the fraction of training in which the learning rate rises; nothing is decided in it.
        open_at: From `start` on, distil only once the student's Brier score on its training batches, the mean of
            `|probabilities - label|^2`, has come down to this, in (0, 2]: before that labels say more than they are
            noisy, and a teacher helps little (docs/window.md). For classes, and each call has to have the labels. By
            default there is nothing to wait for.
        loss: A name (kl, reverse_kl, jsd, mse, huber, dkd, dist) or a function `(student, teacher, *, temperature,
            labels)` that maps logits `[rows, classes]` to `[rows]`, row by row. docs/losses.md tells which means
            something for which head.
        temperature: T of the loss.
        weight: w, in [0, 1].
        standardize: Standardise both sides' logits first (arXiv 2403.01427), each teacher's on its own.
        fraction: Of each batch's samples that are distilled, in (0, 1]: the first ones, rounded up; teachers see no
            others. The distillation loss is the mean over these, with the weight as it is; the task loss is over all.
        average: How several teachers of one step are averaged; by default `"logit"` for reverse_kl, mse and huber, else
            `"probability"` (the mean of tempered ones). For kl, reverse_kl and mse that is the mean which one drawn
            teacher estimates without bias.
        head: What a row of outputs means: `"classes"` (one of many, a softmax), `"labels"` (several yes-or-no labels, a
            sigmoid each) or `"values"` (numbers, as in regression). By default classes; a batch that contradicts is
            refused, and the message says what to set.
        class_dim: The dimension that the classes of logits are in: -1, the last, or 1 for maps
            `[batch, classes, height, width]`. By default the last; logits of which that is not certain are refused.

    Raises:
        HeadstartError: A value outside its range, an unknown loss, average or head, a loss or option that means nothing
            for the head, or a window that makes no sense.
        TeacherError: No teachers, or something that is no module.

    Example:
        >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> distiller = Distiller(teacher, total_steps=10, stop=0.4)
        >>> inputs, labels = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
        >>> logits = student(inputs)
        >>> loss = distiller(nn.functional.cross_entropy(logits, labels), logits, inputs)
        >>> loss.backward(); distiller.step()
        >>> distiller.current_step, distiller.last.teachers
        (1, ('Linear',))
    """

    def __init__(
        self,
        teachers: TeacherPool | nn.Module | TargetSource | Iterable[nn.Module | TargetSource],
        *,
        total_steps: int,
        start: float = 0.0,
        stop: float | Literal["auto"] = 0.5,
        every: int = 1,
        ramp_up: float = 0.0,
        ramp_down: float = 0.0,
        cap: float | None = None,
        warmup: float = WARMUP,
        open_at: float | None = None,
        loss: str | LossFunction = "kl",
        temperature: float = 4.0,
        weight: float = 0.9,
        standardize: bool = False,
        fraction: float = 1.0,
        average: Average | None = None,
        head: Head | None = None,
        class_dim: int | None = None,
    ) -> None:
        if total_steps < 1:
            raise HeadstartError(
                f"total_steps={total_steps} must be at least 1: the optimiser steps of all the training"
            )
        if not 0.0 <= weight <= 1.0:
            raise HeadstartError(
                f"weight={weight} is outside [0, 1]; the loss is (1 - weight) * task + weight * distill"
            )
        if not 0.0 < fraction <= 1.0:
            raise HeadstartError(f"fraction={fraction} must be above 0 and at most 1: the share of a batch to distil")
        self._objective = build_objective(loss, temperature, standardize, average, head or "classes")
        pool = as_pool(teachers)
        automatic = automatic_stop(
            stop, cap=cap, warmup=warmup, ramp_down=ramp_down, objective=self._objective, sources=pool.teachers
        )
        latest = latest_stop(stop, cap)
        window = Window(start=start, stop=latest, every=every, ramp_up=ramp_up, ramp_down=ramp_down)
        opening = None if open_at is None else Opening(open_at, self._objective)
        self._when = When(window, total_steps, opening, automatic)
        self.weight = weight
        self._layout = Layout(head, class_dim, self._objective)
        self._flags = NonFiniteFlags([source.name for source in pool.teachers])
        self._asking: Asking | None = Asking(pool, fraction, self._flags, int(every), self._layout)
        self._layout.check_teachers(pool.teachers)
        for source in pool.teachers:
            source.check(self.use)
        self._by_row = fusable(self._objective)
        self._fusable = self._by_row and not any(source.sparse for source in pool.teachers)
        self._tokens: int | None = None  # to distil of a language model's; from the first distilled batch on
        self._step = 0
        self._ignored: int | None = None  # the task loss's own label for none, beside -100
        self._labels_seen = False
        self.last: LastCall | None = None
        self._let_go_if_closed()

    @property
    def use(self) -> Use:
        """What is done with targets, for those that are made ahead."""
        asked = self._asking.pool.draw if self._asking is not None else 0
        return Use(self._objective.loss.function, self._objective.temperature, self._objective.standardize, asked)

    @property
    def window(self) -> Window:
        """The window as it is fixed; an automatic stop and `open_at` may have it closed, or not open yet, inside."""
        return self._when.window

    @window.setter
    def window(self, window: Window) -> None:
        self._when.window = window

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training; set it where they are known late."""
        return self._when.total_steps

    @total_steps.setter
    def total_steps(self, steps: int) -> None:
        self._when.total_steps = steps

    @property
    def current_step(self) -> int:
        """The optimiser step now under way, counted from 0.

        Set it, instead of calling `step`, where the loop has a counter of its own; it raises what `step` raises.
        """
        return self._step

    @current_step.setter
    def current_step(self, step: int) -> None:
        self._go_to(int(step), judged=True)

    @property
    def active(self) -> bool:
        """Whether the present step is distilled."""
        return self._scale > 0.0

    @property
    def needs_labels(self) -> bool:
        """Whether calls have to have labels: for the loss (dkd), `stop="auto"` or `open_at`."""
        return self._when.by_labels or self._objective.loss.function is dkd

    @property
    def needs_logits(self) -> bool:
        """Whether the present step is distilled, or looked at to see whether the window may open (`open_at`)."""
        return self.active or self._when.awaits(self._step) is not None

    @property
    def closed(self) -> bool:
        """Whether no step from the present one on is distilled."""
        return self._when.closed(self._step)

    @property
    def stopped(self) -> Stopped | None:
        """With `stop="auto"`, when and why the window closes, once that is decided; `print` it. None before."""
        return self._when.stopped

    @property
    def opened(self) -> Opened | None:
        """With `open_at`, since when the window is open, once it is; `print` it. None before."""
        return self._when.opened

    @outside_graphs
    def prefetch(self, inputs: Any, *, keys: Keys | None = None) -> None:
        """Have the teachers work on a batch already, before the student does. Calling it is never necessary.

        On CUDA they work on a stream of their own, beside the student's forward. Elsewhere they work at once, which is
        cheaper than between the student's forward and its backward: memory that they are done with serves the student.
        The loss is the same number as without. Where the present step is not distilled, nothing happens.

        Args:
            inputs: What the student is given next, and then the Distiller: the very same object.
            keys: As in `__call__`.

        Raises:
            TeacherError: As in `__call__`.

        Example:
            >>> student, distiller = nn.Linear(2, 3), Distiller(nn.Linear(2, 3), total_steps=10)
            >>> inputs, labels = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
            >>> distiller.prefetch(inputs)
            >>> loss = distiller.loss(student(inputs), labels, inputs)
        """
        if self.active and torch.is_grad_enabled():
            self._teachers().start(self._step, inputs, keys)

    @outside_graphs
    def __call__(
        self,
        loss: Tensor,
        logits: Tensor | Several,
        inputs: Any,
        *,
        labels: Tensor | Several | None = None,
        num_items: float | Tensor | None = None,
        keys: Keys | None = None,
    ) -> Tensor:
        """Add the distillation loss of a batch, if the present step is distilled.

        Args:
            loss: The task loss, a scalar. It comes back itself where the step is not distilled.
            logits: The student's, `[..., classes]`, with a `class_dim` `[batch, classes, ...]`; of labels and values
                `[..., outputs]`, or `[...]` where there is one. Several heads (start and end of an answer) come as a
                mapping by name, or a tuple; the teachers give as many in the same form, and the loss is the heads'
                mean.
            inputs: What the student was given; goes to the teachers as it is (a tensor, a tuple, or a mapping of
                arguments).
            labels: `[...]` of int64, or probabilities `[..., classes]` where rows are mixtures of classes; for heads of
                labels and values one for each output, of any dtype. What is labelled -100, or NaN, or what torch's
                cross-entropy was told to ignore as the task loss, is not distilled, and may be anything in the
                teachers' outputs; `dkd` needs the labels themselves. Several heads have them in the form of the logits.
            num_items: Distilled rows of the whole optimiser step; for labels and values the labelled outputs. By
                default the loss is the mean over this batch's: give it where that number differs between micro-batches,
                and divide the task loss by the same (Hugging Face's `num_items_in_batch`). With a `fraction` it is
                still the number of all rows; the sum over those distilled is divided by their share of it.
            keys: Which samples these are, in which epoch; cached teachers look their targets up by it.

        Returns:
            A scalar.

        Raises:
            TeacherError: The teachers' logits do not fit the student's, or are probabilities; or the teachers were let
                go before.
            HeadstartError: The logits contradict the head or the loss, or leave open which dimension the classes are
                in. The labels do not fit the logits, or are missing where the loss needs them; or `prefetch` was called
                with other inputs.
        """
        scale = self._scale
        self._look_at_labels(inputs, labels)
        if scale == 0.0 or not torch.is_grad_enabled():
            if (opening := self._awaits()) is not None:
                outputs = self._heads(logits, self._as_the_task_has_them(labels, loss))[1]
                self._check_first(loss, outputs, num_items)
                opening.observe(outputs)
            return loss
        heads = self._heads(logits, self._as_the_task_has_them(labels, loss))
        return self._add(loss, scale, *heads, inputs, num_items, keys)

    @outside_graphs
    def loss(
        self,
        logits: Tensor | Projection | Several,
        labels: Tensor | Several,
        inputs: Any,
        *,
        label_smoothing: float = 0.0,
        num_items: float | Tensor | None = None,
        keys: Keys | None = None,
    ) -> Tensor:
        """Task loss and distillation loss together.

        The task loss is the cross-entropy for classes, the binary one for labels, the squared error for values: the
        mean over rows, or outputs, that are labelled; and of several heads their mean. For another one call the
        Distiller itself.

        Many logits (see `fused_loss`) are gone through once, in a fraction of the time and memory; those of steps that
        are not distilled, too; `last` tells the accuracies as well. That is for class indices of one head. Where a
        `Projection` comes in their place, as from a causal language model, they are made of it a few rows at a time,
        and those of a teacher that gives one, too: neither model's logits ever exist in full. Losses that look at more
        than one row (dist, functions of your own) make them all the same.

        Args:
            logits: As in `__call__`, or a `Projection`.
            labels: As in `__call__`; what is labelled -100, or NaN, counts in neither loss.
            inputs: As in `__call__`.
            label_smoothing: As in `torch.nn.functional.cross_entropy`; the teachers' targets are not smoothed.
            num_items: As in `__call__`; divides both losses.
            keys: As in `__call__`.

        Returns:
            A scalar, in at least float32.

        Raises:
            TeacherError: As in `__call__`.
            HeadstartError: As in `__call__`; or the labels are no class indices and the head was not told.

        Example:
            >>> distiller = Distiller(nn.Linear(2, 3), total_steps=10)
            >>> logits, labels = torch.zeros(4, 3, requires_grad=True), torch.tensor([0, 1, 2, -100])
            >>> distiller.loss(logits, labels, torch.zeros(4, 2)).shape
            torch.Size([])
        """
        scale = self._scale
        active = scale > 0.0 and torch.is_grad_enabled()
        self._look_at_labels(inputs, labels)
        if isinstance(logits, Projection):
            if isinstance(labels, Tensor) and self._by_row and not (active and self._cuts(len(logits.weight))):
                weight = self.weight * scale if active else 0.0
                return self._projected(logits, labels, inputs, weight, label_smoothing, num_items, keys)
            logits = as_logits(logits)
        names, outputs = self._heads(logits, labels)
        fusable = active and self._fusable and not names and not self._cuts(outputs[0].logits.shape[-1])
        if not fusable or not is_class_index(given := outputs[0].labels):
            task = task_loss(outputs, self._objective, label_smoothing=label_smoothing, num_items=num_items)
            if (opening := self._awaits()) is not None:
                opening.observe(outputs)
            return self._add(task, scale, names, outputs, inputs, num_items, keys) if active else task
        weight = self.weight * scale
        (asked,) = self._ask(names, outputs, inputs, keys)
        result = both_losses(
            asked,
            self._objective,
            outputs[0].logits,
            given,
            weight=weight,
            label_smoothing=label_smoothing,
            num_items=num_items,
        )
        self._remember(asked, weight, *result[1:])
        return result.loss

    def step(self) -> None:
        """Count an optimiser step. Call it after each real one, once for all its micro-batches.

        Raises:
            TeacherError: A teacher gave non-finite outputs in the step before.
        """
        self.current_step += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs: the step. The draw follows from it, and teachers' weights are never part of it.

        With `stop="auto"` or `open_at` also what has been measured so far, some dozens of numbers.

        Raises:
            TeacherError: A teacher gave non-finite outputs, so that no checkpoint hides it.
        """
        self._flags.check()
        return {"current_step": self._step, **self._when.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was taken."""
        self._go_to(int(state["current_step"]), judged=False)
        self._when.load_state_dict(state)
        self._let_go_if_closed()

    def _projected(
        self,
        student: Projection,
        labels: Tensor,
        inputs: Any,
        weight: float,
        label_smoothing: float,
        num_items: Count | None,
        keys: Keys | None,
    ) -> Tensor:
        """As `loss`, of logits that do not exist; without teachers where they have no weight."""
        if not weight:
            task = linear_cross_entropy(student, labels, label_smoothing=label_smoothing, num_items=num_items)
            if (opening := self._awaits()) is not None:
                opening.observe_projected(student, labels)
            return task
        asking, outline = self._teachers(), Output(student.outline(), labels)
        if (automatic := self._when.automatic) is not None:
            automatic.check_labels([outline])
        (asked,) = asking.ask(self._step, (), [outline], inputs, keys, projected=True)
        if automatic is not None:
            automatic.observe_projected(asked, student, labels)
        loss, *measured = projected_losses(
            asking,
            asked,
            self._objective,
            student,
            labels,
            weight=weight,
            label_smoothing=label_smoothing,
            num_items=num_items,
        )
        self._remember(asked, weight, *measured)
        return loss

    def _as_the_task_has_them(self, labels: Any, task: Tensor) -> Any:
        """Labels of which those that the task loss leaves out are the -100 that it leaves out by default."""
        if self.last is None:
            self._ignored = ignored_label(task)
        if self._ignored is None or not isinstance(labels, Tensor) or labels.is_floating_point():
            return labels
        labels = labels.long()
        return labels.masked_fill(labels == self._ignored, IGNORED)

    def _look_at_labels(self, inputs: Any, labels: Any) -> None:
        """Once, where students are judged by them."""
        if not self._labels_seen and self._when.by_labels:
            refuse_own_tokens("stop='auto' and open_at", inputs, labels)
            self._labels_seen = True

    def _heads(self, logits: Tensor | Several, labels: Any) -> tuple[Names, list[Output]]:
        names, outputs = outputs_of(logits, labels)
        return names, [Output(*self._layout.of_student(*output)) for output in outputs]

    def _add(
        self,
        task: Tensor,
        scale: float,
        names: Names,
        outputs: list[Output],
        inputs: Any,
        num_items: Count | None,
        keys: Keys | None,
    ) -> Tensor:
        self._check_first(task, outputs, num_items)
        weight = self.weight * scale
        if not names and self._cuts(outputs[0].logits.shape[-1]):
            outputs = [first_tokens(outputs[0], self._tokens or 0)]
        asked = self._ask(names, outputs, inputs, keys)
        distill = distillation_loss(asked, self._objective, outputs, num_items)
        self._remember(asked[0], weight, task.detach(), distill.detach())
        return (1.0 - weight) * task + weight * distill

    def _cuts(self, own: int) -> bool:
        """Whether teachers know only the first of so many tokens of the student's; those that know more give these."""
        if self._tokens is None:
            self._tokens = self._teachers().share_tokens(own)
        return self._tokens < own

    def _check_first(self, task: Tensor, outputs: list[Output], num_items: Count | None) -> None:
        """What the first distilled batch tells of the task loss, and of what it was called with."""
        if self.last is not None:
            return
        if self._layout.assumes_classes:
            warn_of_task(task)
        if self._layout.class_dim is None:
            check_class_dim(task, outputs[0].logits)
        if num_items is None:
            warn_of_sum(task, outputs[0].logits.shape[:-1].numel())

    @property
    def _scale(self) -> float:
        """The factor on the weight at the present step."""
        return self._when.scale(self._step)

    def _awaits(self) -> Opening | None:
        """What has to look at the present batch, to see whether the window may open."""
        return self._when.awaits(self._step) if torch.is_grad_enabled() else None

    def _ask(self, names: Names, outputs: list[Output], inputs: Any, keys: Keys | None) -> list[Asked]:
        if (automatic := self._when.automatic) is not None:
            automatic.check_labels(outputs)
        asked = self._teachers().ask(self._step, names, outputs, inputs, keys)
        if automatic is not None:
            automatic.observe(asked, outputs)
        return asked

    def _go_to(self, step: int, *, judged: bool) -> None:
        if step != self._step:
            if self._asking is not None:
                self._asking.drop()  # the next step's teachers may be others
            distilled = self._asking is not None and self.active
            self._flags.hand_over(self._step, distilled=distilled)
            if judged and self._when.hand_over(self._step, step, distilled=distilled) and self.last is not None:
                self.last = replace(self.last, stopped=self.stopped)
        self._step = step
        self._let_go_if_closed()

    def _teachers(self) -> Asking:
        if self._asking is None:
            raise TeacherError(
                f"step {self._step} is inside the window, but the teachers were let go when it closed; "
                "make a new Distiller to go back"
            )
        return self._asking

    def _remember(self, asked: Asked, weight: float, *measured: Tensor) -> None:
        self.last = LastCall(self._step, asked.names, weight, *measured, stopped=self.stopped)

    def _let_go_if_closed(self) -> None:
        if self._asking is not None and self.closed:
            self._asking = None
            self._flags.check()
