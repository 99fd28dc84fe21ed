"""From a recipe to its task."""

from __future__ import annotations

from typing import Any

import torch

from headstart.distill import Teacher
from headstart.errors import TeacherError
from headstart.recipe.recipe import ClmRecipe, ImageRecipe, MlmRecipe, Recipe
from headstart.tasks import Task
from headstart.tasks.images import ImageClassification
from headstart.tasks.text import CausalLM, MaskedLM, load_corpus
from headstart.tasks.text.causal.probe import keeps_documents_apart


def student_side(task: Task) -> dict[str, Any]:
    """What of the student its teachers must fit, as `load_teacher` takes it."""
    if isinstance(task, ImageClassification):
        return {"mean": task.mean.tolist(), "std": task.std.tolist(), "classes": task.classes}
    if isinstance(task, MaskedLM | CausalLM):
        return {"tokenizer": task.corpus.tokenizer, "length": task.data.length}
    raise TypeError(f"{type(task).__name__} says nothing to teachers")


def check_teacher(task: Task, teacher: Teacher) -> None:
    """Refuse a teacher that would be given the student's inputs, and take them for something else.

    Raises:
        TeacherError: Documents are kept apart, and it sees beyond them.
    """
    module: Any = teacher.module
    if isinstance(task, CausalLM) and task.data.documents_apart and not keeps_documents_apart(module):
        raise TeacherError(
            f"teacher {teacher.name!r} cannot keep the documents of a sequence apart, as the student does "
            f"({type(teacher.module).__name__}: positions that begin anew mean nothing to it); set "
            "data.documents_apart=false, or take another teacher"
        )


def build_task(recipe: Recipe, device: torch.device | str) -> Task:
    """The task that a recipe describes, with its data on the device or at hand for it."""
    smoothing = recipe.train.label_smoothing
    if isinstance(recipe, ImageRecipe):
        seed = recipe.train.seed if recipe.data.seed is None else recipe.data.seed
        return ImageClassification(
            recipe.model,
            recipe.data,
            seed=seed,
            label_smoothing=smoothing,
            task_loss=recipe.train.task_loss,
            device=device,
        )
    if isinstance(recipe, MlmRecipe | ClmRecipe):
        seed = recipe.train.seed if recipe.data.seed is None else recipe.data.seed
        corpus = load_corpus(recipe.data, seed=seed)
        if isinstance(recipe, MlmRecipe):
            return MaskedLM(recipe.model, recipe.data, corpus, seed=seed, label_smoothing=smoothing, device=device)
        return CausalLM(recipe.model, recipe.data, corpus, seed=seed, label_smoothing=smoothing, device=device)
    raise TypeError(f"{type(recipe).__name__} has no task; see headstart.recipe.recipe.RECIPES")
