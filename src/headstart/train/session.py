"""A recipe brought to life: student, data, optimiser and Distiller, and what one step does with them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from headstart.cache import CachedTeacher
from headstart.distill import Distiller, HiddenLoss, TeacherPool, Window
from headstart.distill.pool.sharding import shard
from headstart.distill.projection import Logits, as_logits
from headstart.distill.targets.source import Keys
from headstart.errors import RecipeError
from headstart.precision import AUTOCAST
from headstart.recipe.automatic import provisional
from headstart.recipe.checks import check_settings
from headstart.recipe.distill_section import Distill
from headstart.recipe.image_sizes import side_of_step
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import run_window, steps_of
from headstart.recipe.train_section import Train
from headstart.records import InitRecord
from headstart.tasks import Batch, Evaluation, Task
from headstart.tasks.images.losses import soft_labels
from headstart.tasks.images.progressive import resized
from headstart.tasks.random import seed_of
from headstart.train import ranks
from headstart.train.averaging import average_of
from headstart.train.freed_memory import keep_freed_memory
from headstart.train.optimizer import build_optimizer, lr_scale, set_lr
from headstart.train.parallel import average_statistics
from headstart.train.precision import settled
from headstart.train.setup.build_task import build_task
from headstart.train.setup.cached_targets import distilled_batches, require_targets
from headstart.train.setup.hidden_states import hidden_loss
from headstart.train.setup.initial_weights import start_from
from headstart.train.setup.load_pool import load_pool
from headstart.train.trackers import require_trackers

Decide = Callable[[Recipe, Task, torch.device], Recipe]


class Session:
    """What a run needs in memory.

    Args:
        recipe: What to train.
        teacher_paths: Where the runs lie that the recipe describes under `teachers`.
        initialise: Fill the student from the source that the recipe names; a run that goes on from a checkpoint does
            without.
        decide: Gives settings in place of those that the recipe leaves to a look at its teachers. Default: none is
            taken, and the session has all teachers on all steps of the window.

    Attributes:
        initial: What the student took over from the source, and what that cost; None where it did not.

    Raises:
        RecipeError: The recipe trains not even one step, settings do not go together, or a tracker is not installed.
        TeacherError: A teacher, or the model to start from, cannot be read or does not fit.
        InitError: The model to start from does not fit the student.
    """

    def __init__(
        self,
        recipe: Recipe,
        teacher_paths: Mapping[str, Path] | None = None,
        *,
        initialise: bool = True,
        decide: Decide | None = None,
    ) -> None:
        check_settings(recipe)
        require_trackers(recipe.train.trackers)
        self.accelerator = ranks.connect()
        self.recipe = recipe = settled(recipe)
        train = recipe.train
        self._check_parts()
        _make_deterministic(train.deterministic)
        torch.manual_seed(train.seed)
        self.task: Task = build_task(recipe, self.accelerator.device)
        ranks.wait_for_slow_ones()  # of which some may have filled a cache of their own
        self.recipe = recipe = with_all_teachers(recipe) if decide is None else decide(recipe, self.task, self.device)
        self.total_steps = steps_of(recipe, self.task.samples)
        model = self.task.build_model()
        self.initial = self._initialised(model, teacher_paths or {}) if initialise else None
        self.model, self.optimizer = self._prepared(model)
        self._average = average_of(self.student, train.ema)
        pool = load_pool(recipe, teacher_paths or {}, self.task, self.device, autocast=AUTOCAST[train.precision])
        self.hidden = self._hidden_loss(pool)
        self.distiller = (
            make_distiller(recipe.distill, train, pool, self.total_steps)
            if recipe.distill and recipe.distill.of_logits and pool is not None
            else None
        )
        if pool is not None and self.distiller is not None:
            self._require_targets(pool, self.distiller.window)
        # Weakly, so that the teachers are freed when the Distiller lets them go.
        self._pool = weakref.ref(pool) if pool is not None else None
        if self.device.type == "cpu":  # last: what making all this has freed may go back
            keep_freed_memory()

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return torch.device(self.accelerator.device)

    @property
    def student(self) -> nn.Module:
        """The model without what Accelerate wraps around it."""
        student: nn.Module = self.accelerator.unwrap_model(self.model)
        return student

    @property
    def result(self) -> nn.Module:
        """What the run is judged by and leaves: the student, or the average of its weights."""
        return self.student if self._average is None else self._average.module

    @property
    def pool(self) -> TeacherPool | None:
        """The teachers; None where there are none, or the window has closed and they were let go."""
        return self._pool() if self._pool is not None else None

    @property
    def parts(self) -> int:
        """Micro-batches of an optimiser step, those of all processes together."""
        return self.recipe.train.accumulate * int(self.accelerator.num_processes)

    def batch(self, step: int, micro: int = 0) -> Batch:
        """One of this process's micro-batches of a step."""
        return self.task.batch(step, self.recipe.train.batch_size, part=self._part(micro), parts=self.parts)

    def train_step(self, step: int, *, side: int | None = None) -> Tensor:
        """One optimiser step.

        Args:
            step: Counted from 0. Together with the weights it determines everything the step does.
            side: Of the images, in pixels, in place of what the recipe says for the step.

        Returns:
            The loss (task and distillation) of this process's part of the batch, a scalar, detached.
        """
        train = self.recipe.train
        set_lr(self.optimizer, train.lr * lr_scale(step, self.total_steps, train))
        self.model.train()
        total = torch.zeros((), device=self.device)
        for micro in range(train.accumulate):
            # So dropout follows from no state: a resumed run draws the same, on any number of processes.
            torch.manual_seed(seed_of(train.seed, step, self._part(micro)))
            with self._synchronised(micro == train.accumulate - 1):
                loss = self._loss(step, micro, side)
                self.accelerator.backward(loss / train.accumulate)
            total += loss.detach() / train.accumulate
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        average_statistics(self.student)
        if self._average is not None:
            self._average.update_parameters(self.student)
        for part in (self.distiller, self.hidden):
            if part is not None:
                part.step()
        return total

    def evaluate(self, *, shares: int = 1) -> Evaluation:
        """Held-out quality of the student, or its average, as it is now; each process evaluates a part.

        Args:
            shares: Evaluate one of so many parts of the held-out data only: for what it takes, not for what it says.
        """
        model = self.model if self._average is None else self._average.module
        model.eval()
        part, parts = ranks.rank() * shares, ranks.count() * shares
        return _over_ranks(self.task.evaluate(partial(self._forward, model), part=part, parts=parts))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, teachers excepted."""
        return {
            "model": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "distiller": self.distiller.state_dict() if self.distiller is not None else None,
            "hidden": self.hidden.state_dict() if self.hidden is not None else None,
            "average": self._average.state_dict() if self._average is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self.student.load_state_dict(state["model"])
        if self.hidden is not None:  # first, as its window may have closed, and its projection left the optimiser
            self.hidden.load_state_dict(state["hidden"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self.distiller is not None and state["distiller"] is not None:
            self.distiller.load_state_dict(state["distiller"])

    def beside_student(self) -> dict[str, Tensor]:
        """What is trained beside the student, and what its optimiser keeps of it, for checkpoints that are in parts."""
        weight = None if self.hidden is None else self.hidden.projection
        if weight is None:
            return {}
        kept = {f"optimizer.{name}": torch.as_tensor(value) for name, value in self.optimizer.state[weight].items()}
        return {"projection": weight.detach(), **kept}

    def load_beside_student(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Go back to where `beside_student` was asked, after so many steps."""
        if self.hidden is None:
            return
        self.hidden.load_state_dict({"current_step": step, "projection": state.get("projection")})
        if (weight := self.hidden.projection) is not None:
            kept = {name: value for name, value in state.items() if name.startswith("optimizer.")}
            # Counts of steps stay on the CPU, as the optimiser had them.
            self.optimizer.state[weight] = {
                name.removeprefix("optimizer."): value.to(weight.device) if value.dim() else value
                for name, value in kept.items()
            }

    def _loss(self, step: int, micro: int, side: int | None) -> Tensor:
        batch = self.batch(step, micro)
        inputs = resized(batch.inputs, side or side_of_step(self.recipe, step, self.total_steps))
        if self.hidden is None:
            return self._loss_of_logits(batch, inputs)
        with self.hidden.overhear():
            loss = self._loss_of_logits(batch, inputs)
        return self.hidden(loss, inputs)

    def _loss_of_logits(self, batch: Batch, inputs: Any) -> Tensor:
        if self.distiller is None:
            return self.task.loss(self._forward(self.model, inputs), batch)
        smoothing, keys = self.recipe.train.label_smoothing, Keys(batch.samples, batch.epoch)
        self.distiller.prefetch(inputs, keys=keys)
        logits = self._forward(self.model, inputs)
        if self.task.own_loss:
            task = self.task.loss(logits, batch)
            return self.distiller(task, as_logits(logits), inputs, labels=self._distilled_labels(batch), keys=keys)
        return self.distiller.loss(
            logits, batch.labels, inputs, label_smoothing=smoothing, num_items=batch.items, keys=keys
        )

    def _distilled_labels(self, batch: Batch) -> Tensor:
        """One class for each row; where rows are mixtures, and labels are looked at, the share of each class."""
        if batch.mixed is None or self.distiller is None or not self.distiller.needs_labels:
            return batch.labels
        return soft_labels(batch, self.task.num_classes)

    def _forward(self, model: nn.Module, inputs: Any) -> Logits:
        dtype = AUTOCAST[self.recipe.train.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return self.task.forward(model, inputs)

    def _initialised(self, model: nn.Module, paths: Mapping[str, Path]) -> InitRecord | None:
        """Before it is wrapped or spread over processes: there it may be too large for one device."""
        if self.recipe.init is None:
            return None
        device = torch.device("cpu") if self.recipe.train.sharding == "fsdp" else self.device
        return start_from(model, self.recipe, self.task, device, paths.get(self.recipe.init.source))

    def _part(self, micro: int) -> int:
        """The number of a micro-batch among those of all processes."""
        return ranks.rank() * self.recipe.train.accumulate + micro

    def _hidden_loss(self, pool: TeacherPool | None) -> HiddenLoss | None:
        """The loss between hidden states; its projection is trained from the first step on."""
        if self.recipe.distill is None or self.recipe.distill.hidden is None:
            return None
        size = self.recipe.train.batch_size
        sample, side = self.task.batch(0, size, parts=size), side_of_step(self.recipe, 0, self.total_steps)
        hidden = hidden_loss(self.recipe, self.student, pool, sample, self.total_steps, side)
        if hidden is not None:
            hidden.join(self.optimizer)
        return hidden

    def _require_targets(self, pool: TeacherPool, window: Window) -> None:
        """Whoever reads cached targets knows before the first step that they reach to the last."""
        cached = [teacher for teacher in pool.teachers if isinstance(teacher, CachedTeacher)]
        if cached:
            processes = self.accelerator.num_processes
            require_targets(cached, distilled_batches(self.recipe, self.task, window, self.total_steps, processes))

    def _check_parts(self) -> None:
        size = self.recipe.train.batch_size
        if size % self.parts:
            raise RecipeError(
                f"train.batch_size={size} cannot be cut into {self.parts} equal parts, "
                f"{self.recipe.train.accumulate} on each of {ranks.count()} processes; change it, or their number"
            )

    def _prepared(self, model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Model and optimiser, spread over the processes where there are several."""
        train = self.recipe.train
        if train.sharding == "fsdp" and ranks.count() > 1:
            shard(model, self.device, trained=True)
            return model, build_optimizer(model, train)
        wrapped, optimizer = self.accelerator.prepare(model, build_optimizer(model, train))
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.broadcast_buffers = False  # they are averaged instead, after each step
        return wrapped, optimizer

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged once a step, after the last micro-batch."""
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(self.model)


def with_all_teachers(recipe: Recipe) -> Recipe:
    """A recipe as it is at most where it leaves settings to a look at its teachers: all of them, on all steps."""
    if recipe.distill is None or not recipe.distill.undecided:
        return recipe
    return recipe.model_copy(update={"distill": provisional(recipe.distill)})


def _over_ranks(evaluation: Evaluation) -> Evaluation:
    """Means over the rows of all processes."""
    if ranks.count() == 1:
        return evaluation
    values = [evaluation.quality, *evaluation.others.values()]
    rows, *sums = ranks.total([evaluation.rows, *(value * evaluation.rows for value in values)])
    quality, *others = (value / rows for value in sums)
    return Evaluation(quality, dict(zip(evaluation.others, others, strict=True)), int(rows))


def _make_deterministic(wanted: bool) -> None:
    if wanted:
        # cuBLAS reads it when it is first used; without it torch refuses to call cuBLAS deterministically.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)


def make_distiller(distill: Distill, train: Train, pool: TeacherPool, total_steps: int) -> Distiller:
    """The Distiller of a recipe.

    Raises:
        HeadstartError: An option does not go with another, or with what the pool's teachers give.
    """
    assert distill.temperature != "auto" and distill.every != "auto"
    assert distill.weight != "auto" and distill.open_at != "auto"
    distiller = Distiller(
        pool,
        total_steps=total_steps,
        start=distill.start,
        stop=distill.stop,
        cap=distill.cap,
        warmup=train.warmup,
        open_at=distill.open_at,
        every=distill.every,
        ramp_up=distill.ramp_up,
        ramp_down=distill.ramp_down,
        loss=distill.loss,
        temperature=distill.temperature,
        weight=distill.weight,
        standardize=distill.standardize,
        fraction=distill.fraction,
        average=distill.average,
        head="classes",
    )
    distiller.window = run_window(distill, train)
    return distiller
