"""Rows of a vocabulary or of a head of classes, matched by what they stand for: new ones have no counterpart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.class_names import comparable
from headstart.teachers.source import Source, read_tokenizer

_ROLES = ("mask", "pad", "cls", "sep", "unk", "bos", "eos")


def rows_of(
    model: nn.Module, source: Source, *, classes: Sequence[str] | None = None, tokenizer: Any = None
) -> dict[str, Tensor]:
    """For each row of a student's vocabulary and head of classes the source's that stands for the same.

    Args:
        model: The student.
        source: The older model.
        classes: Names of the student's classes, where known.
        tokenizer: The student's, where it is a language model.

    Returns:
        By the names of the student's tensors, as `init_from` takes them: indices, -1 where there is none. Empty where
        nothing is known of one side: rows are then taken as they are, if there are equally many.

    Raises:
        TeacherError: The source's tokenizer cannot be read.
    """
    rows: dict[str, Tensor] = {}
    if classes is not None and (matched := class_rows(source.classes, classes)) is not None:
        rows |= dict.fromkeys(_head_of(model, len(classes)), torch.tensor(matched))
    if tokenizer is not None and source.tokenizer is not None:
        known = token_rows(read_tokenizer(source.tokenizer, source.spec), tokenizer)
        same = known == list(range(len(known)))
        for name, size in _of_vocabulary(model).items():
            if not (same and size == source.vocabulary):  # else all rows are the source's, those that pad it, too
                rows[name] = _padded(known, size)
    return rows


def class_rows(own: Sequence[str] | None, student: Sequence[str]) -> list[int] | None:
    """For each of the student's classes the source's of the same name, or -1; None where names tell nothing.

    Capitals, punctuation and spaces do not matter; numbers are no names, and a name that the source has twice tells
    nothing.

    Example:
        >>> class_rows(["cat", "dog"], ["owl", "Cat"])
        [-1, 0]
    """
    if own is None or any(all(str(label).isdecimal() for label in labels) for labels in (own, student)):
        return None
    known, needed = (comparable([str(label) for label in labels]) for labels in (own, student))
    return [known.index(label) if known.count(label) == 1 else -1 for label in needed]


def token_rows(own: Any, student: Any) -> list[int]:
    """For each of the student's tokens the source's of the same text, or of the same role if it is special; or -1.

    Args:
        own: The source's tokenizer.
        student: The student's.
    """
    numbers: Mapping[str, int] = own.get_vocab()
    wanted: Mapping[str, int] = student.get_vocab()
    rows = [-1] * (max(wanted.values()) + 1)
    for token, number in wanted.items():
        rows[number] = numbers.get(token, -1)
    for role in _ROLES:
        here, there = (getattr(each, f"{role}_token_id", None) for each in (student, own))
        if here is not None and there is not None:
            rows[here] = there
    return rows


def _padded(rows: list[int], size: int) -> Tensor:
    """Columns beyond the tokens stand for nothing."""
    return torch.tensor((rows + [-1] * size)[:size])


def _of_vocabulary(model: nn.Module) -> dict[str, int]:
    """The tensors with a row a token, by all their names, and how many rows they have."""
    wanted: list[Tensor] = []
    for find in ("get_input_embeddings", "get_output_embeddings"):
        module = getattr(model, find, lambda: None)()
        wanted += [] if module is None else list(module.parameters(recurse=False))
    state = model.state_dict(keep_vars=True)
    return {name: len(value) for name, value in state.items() if any(value is tensor for tensor in wanted)}


def _head_of(model: nn.Module, classes: int) -> list[str]:
    """The tensors of the last layer that gives so many outputs."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and len(module.weight) == classes
    ]
    return [f"{layers[-1][0]}.{part}" for part, _ in layers[-1][1].named_parameters()] if layers else []
