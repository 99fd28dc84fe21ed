"""A student's first weights, out of an older model that the recipe names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.distill.flops import forward_flops
from headstart.errors import HeadstartError
from headstart.init import Inherited, init_from
from headstart.init.filling.check import CHECKED
from headstart.recipe.init_section import Init
from headstart.recipe.recipe import Recipe
from headstart.records import InitRecord
from headstart.tasks import Task
from headstart.teachers.rows import rows_of
from headstart.teachers.source import Source, load_source
from headstart.train.costs.teachers import weights_cost
from headstart.train.setup.build_task import student_side


def start_from(
    model: nn.Module, recipe: Recipe, task: Task, device: torch.device, path: Path | None = None
) -> InitRecord | None:
    """Fill a student from the source that its recipe names; every process of a run does it alike.

    Args:
        model: The student with fresh weights; changed in place.
        recipe: With or without an `init` section.
        task: The student's.
        device: Where the source and the student look at batches, where they have to.
        path: Where the source lies if it is a name from the recipe.

    Returns:
        What was done and what it cost; None without such a section.

    Raises:
        TeacherError: The source is missing, damaged, or would execute code.
        InitError: It does not fit the student.
    """
    settings = recipe.init
    if settings is None:
        return None
    begin = time.perf_counter()
    try:
        source = load_source(path or settings.source, runs=_runs(settings))
        names = {key: value for key, value in student_side(task).items() if key in ("classes", "tokenizer")}
        batches = _batches(settings, task, recipe.train.batch_size) if _looks(settings, model) else []
        if batches:
            for side in (model, source.weights):
                if isinstance(side, nn.Module):
                    side.to(device)
        inherited = init_from(
            model,
            source.weights,
            settings.how,
            scores=settings.scores,
            batches=batches or None,
            forward=whole_forward,
            compensate=settings.compensate,
            shrink=settings.shrink,
            perturb=settings.perturb,
            rows=rows_of(model, source, **names),
            source_config=source.config,
            require=settings.require,
            writing="each",
        )
    except HeadstartError as error:
        raise type(error)(f"init.from={settings.source}: {error}") from None
    return InitRecord(
        source=weights_cost(settings.source, source.parameters, path or settings.source),
        seconds=time.perf_counter() - begin,
        flops=_flops(settings, model, source, batches, inherited),
        inherited=inherited.to_dict(),
    )


def whole_forward(model: nn.Module, inputs: Any) -> Tensor:
    """Logits of a batch as a model gives them that knows nothing of masked rows."""
    if isinstance(inputs, Mapping):
        logits: Tensor = model(**{name: value for name, value in inputs.items() if name != "masked_rows"}).logits
        return logits
    logits = model(inputs)
    return logits


def _runs(settings: Init) -> bool:
    """Whether the source has to work."""
    return settings.scores == "activation" or settings.compensate


def _looks(settings: Init, model: nn.Module) -> bool:
    """Whether batches are needed: to score by, or for statistics that may have to be taken anew."""
    return _runs(settings) or any(isinstance(module, _BatchNorm) for module in model.modules())


def _batches(settings: Init, task: Task, size: int) -> list[Any]:
    """The inputs of the first training steps, whole, so that every process looks at the same."""
    return [task.batch(step, size).inputs for step in range(settings.batches)]


def _flops(settings: Init, model: nn.Module, source: Source, batches: list[Any], inherited: Inherited) -> float:
    """Of the forwards that scored, of those that took statistics anew, and of the two that compared outputs."""
    flops = 0
    if _runs(settings) and isinstance(source.weights, nn.Module):
        flops += len(batches) * forward_flops(source.weights, batches[0], whole_forward)
    if any("taken anew from the batches" in note for note in inherited.notes):
        flops += len(batches) * forward_flops(model, batches[0], whole_forward)
    if any(note.startswith(CHECKED) for note in inherited.notes) and isinstance(source.weights, nn.Module):
        flops += sum(forward_flops(side, batches[0], whole_forward) for side in (model, source.weights))
    return float(flops)
