"""A student that starts from weights that somebody already has: the reuse of weights, the rival of distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from headstart.errors import TeacherError
from headstart.teachers import find_teacher
from headstart.teachers.classes import shared_vocabulary
from headstart.teachers.find import Found
from headstart.teachers.loaded import Loaded
from headstart.teachers.modules import load_module


def start_from(model: nn.Module, spec: str, path: Path | None = None, *, tokenizer: Any = None) -> None:
    """Fill a model with the weights of an earlier one of the same architecture and size.

    Args:
        model: The student; changed in place, where all of it is found.
        spec: As in `find_teacher`, with files of this machine.
        path: Where the weights lie if the spec is a name from the recipe.
        tokenizer: The student's, for language models: that of the weights must be the same. Of a bare file of weights
            nobody knows it.

    Raises:
        TeacherError: The weights are missing, damaged, not of such a model, or of one with another tokenizer.

    Example:
        >>> import tempfile, torch
        >>> earlier, student = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(earlier.state_dict(), f"{folder}/old.pt")
        ...     start_from(student, f"{folder}/old.pt")
        >>> torch.equal(student.weight, earlier.weight)
        True
    """
    found = find_teacher(path or spec)
    if found.path is None:
        raise TeacherError(
            f"train.init_from: {spec}: a run folder or a file of weights is needed; save those that a library fetches "
            "first (state_dict), or use model.pretrained where the task has it"
        )
    try:
        if tokenizer is not None:
            _check_tokenizer(model, found, tokenizer)
        load_module(found, build=lambda: model)
    except TeacherError as error:
        raise TeacherError(f"train.init_from: {error}; a student starts from a model like itself only") from None


def _check_tokenizer(model: nn.Module, found: Found, tokenizer: Any) -> None:
    """Vocabularies of one size fit each other's weights, and every token would begin as some other one."""
    if found.path is not None and found.kind in ("run", "transformers"):
        shared_vocabulary(found, Loaded(model, "mlm", tokenizer=str(found.path.parent)), tokenizer, name=found.spec)
