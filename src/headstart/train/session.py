"""A recipe brought to life: student, data, optimiser and Distiller, and what one step does with them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from headstart.cache import CachedTeacher
from headstart.distill import Distiller, TeacherPool, Window
from headstart.distill.targets import Keys
from headstart.errors import RecipeError
from headstart.tasks import Evaluation, Task
from headstart.train.cached import distilled_batches, require_targets
from headstart.train.optim import build_optimizer, lr_scale, set_lr
from headstart.train.pool import load_pool
from headstart.train.recipe import Distill, Recipe
from headstart.train.task import build_task

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16}


class Session:
    """What a run needs in memory.

    Args:
        recipe: What to train.
        teacher_paths: Where the teachers lie that the recipe names.

    Raises:
        RecipeError: The recipe trains not even one step.
        TeacherError: A teacher cannot be read or does not fit.
    """

    def __init__(self, recipe: Recipe, teacher_paths: Mapping[str, Path] | None = None) -> None:
        train = recipe.train
        self.recipe = recipe
        # Not told of the precision: Accelerate would turn all logits into float32, a copy that no loss here needs.
        self.accelerator = Accelerator(mixed_precision="no")
        _make_deterministic(train.deterministic)
        torch.manual_seed(train.seed)
        self.task: Task = build_task(recipe, self.accelerator.device)
        self.total_steps = _total_steps(recipe, self.task.samples)
        model = self.task.build_model()
        self.model: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.model, self.optimizer = self.accelerator.prepare(model, build_optimizer(model, train))
        pool = load_pool(recipe, teacher_paths or {}, self.task, self.device, autocast=_AUTOCAST[train.precision])
        self.distiller = (
            _distiller(recipe.distill, pool, self.total_steps) if recipe.distill and pool is not None else None
        )
        if pool is not None and self.distiller is not None:
            self._require_targets(pool, self.distiller.window)
        # Weakly, so that the teachers are freed when the Distiller lets them go.
        self._pool = weakref.ref(pool) if pool is not None else None

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
    def pool(self) -> TeacherPool | None:
        """The teachers; None where there are none, or the window has closed and they were let go."""
        return self._pool() if self._pool is not None else None

    def train_step(self, step: int) -> Tensor:
        """One optimiser step.

        Args:
            step: Counted from 0. Together with the weights it determines everything the step does.

        Returns:
            The loss (task and distillation), a scalar, detached.
        """
        train, accelerator = self.recipe.train, self.accelerator
        set_lr(self.optimizer, train.lr * lr_scale(step, self.total_steps, train))
        self.model.train()
        parts = train.accumulate * accelerator.num_processes
        total = torch.zeros((), device=self.device)
        for micro in range(train.accumulate):
            part = accelerator.process_index * train.accumulate + micro
            with self._synchronised(micro == train.accumulate - 1):
                loss = self._loss(step, part, parts)
                accelerator.backward(loss / train.accumulate)
            total += loss.detach() / train.accumulate
        if train.clip_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.distiller is not None:
            self.distiller.step()
        return total

    def evaluate(self) -> Evaluation:
        """Held-out quality of the student as it is now."""
        self.model.eval()
        return self.task.evaluate(self._forward)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, teachers excepted."""
        return {
            "model": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "distiller": self.distiller.state_dict() if self.distiller is not None else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self.student.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.distiller is not None and state["distiller"] is not None:
            self.distiller.load_state_dict(state["distiller"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    def _loss(self, step: int, part: int, parts: int) -> Tensor:
        batch = self.task.batch(step, self.recipe.train.batch_size, part=part, parts=parts)
        logits = self._forward(batch.inputs)
        if self.distiller is None:
            return self.task.loss(logits, batch)
        smoothing, keys = self.recipe.train.label_smoothing, Keys(batch.samples, batch.epoch)
        return self.distiller.loss(logits, batch.labels, batch.inputs, label_smoothing=smoothing, keys=keys)

    def _forward(self, inputs: Any) -> Tensor:
        dtype = _AUTOCAST[self.recipe.train.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return self.task.forward(self.model, inputs)

    def _require_targets(self, pool: TeacherPool, window: Window) -> None:
        """Whoever reads cached targets knows before the first step that they reach to the last."""
        cached = [teacher for teacher in pool.teachers if isinstance(teacher, CachedTeacher)]
        if cached:
            processes = self.accelerator.num_processes
            require_targets(cached, distilled_batches(self.recipe, self.task, window, self.total_steps, processes))

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(self.model)


def _make_deterministic(wanted: bool) -> None:
    if wanted:
        # cuBLAS reads it when it is first used; without it torch refuses to call cuBLAS deterministically.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)


def _total_steps(recipe: Recipe, samples: int) -> int:
    train = recipe.train
    if train.batch_size > samples:
        raise RecipeError(f"train.batch_size={train.batch_size} is more than the {samples} training samples")
    if train.steps is not None:
        return train.steps
    assert train.epochs is not None
    steps = round(train.epochs * (samples // train.batch_size))
    if steps < 1:
        raise RecipeError(
            f"train.epochs={train.epochs} is less than one step of {train.batch_size} samples; train longer"
        )
    return steps


def _distiller(distill: Distill, pool: TeacherPool, total_steps: int) -> Distiller:
    return Distiller(
        pool,
        total_steps=total_steps,
        start=distill.start,
        stop=distill.stop,
        every=distill.every,
        ramp_up=distill.ramp_up,
        ramp_down=distill.ramp_down,
        loss=distill.loss,
        temperature=distill.temperature,
        weight=distill.weight,
        standardize=distill.standardize,
        average=distill.average,
    )
