"""Vocabularies of one tokenizer that are padded to different sizes: the tokens that student and teachers share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill import Teacher
from headstart.distill.asking.shared_tokens import give_first
from headstart.distill.objective import IGNORED
from headstart.distill.vocabulary import count_tokens, inside, may_be_padded, tokens_of

_ROUNDED = 127  # what sizes are rounded up to is 128 at most in the libraries that we know


def share_tokens(student: nn.Module, teachers: Iterable[Teacher], tokenizer: object) -> int | None:
    """The tokens to distil, where student and teachers have logits for different numbers of them.

    A vocabulary is padded at its end, so that those that all have are the first ones. Teachers with more are told to
    give these alone.

    Other tokenizers are not taken for one: the sizes have to be such as padding makes (`may_be_padded`), and one of the
    special tokens has to be the same.

    Args:
        student: The student.
        teachers: Its teachers; those with a map of classes of their own are left as they are.
        tokenizer: The student's, if it is one; then no more than its tokens are shared.

    Returns:
        How many of the student's logits to take; None for all.
    """
    own, given = tokens_of(student), [(teacher, _tokens_given(teacher)) for teacher in teachers]
    counts = [(teacher, count) for teacher, count in given if count is not None]
    if own is None or len(counts) < len(given) or all(count == own for _, count in counts):
        return None
    shared = min(own, *(count for _, count in counts))
    if (tokens := count_tokens(tokenizer)) is not None:
        shared = min(shared, tokens)
    if not all(_may_be_padded(student, teacher) for teacher, _ in counts):
        return None
    give_first(counts, own, shared)
    return shared


def real_tokens(student: nn.Module, mask: Any, logits: Tensor) -> Tensor | None:
    """Which rows of a language model's logits are padding, for a batch without labels: those are labelled -100.

    Args:
        student: The student.
        mask: The batch's `attention_mask`, if it has one.
        logits: `[batch, tokens, vocabulary]`.

    Returns:
        `[batch, tokens]` of int64, 0 or -100; None where nothing tells.
    """
    if not isinstance(mask, Tensor) or mask.shape != logits.shape[:-1] or tokens_of(student) is None:
        return None
    return torch.where(mask > 0, 0, IGNORED)


def _tokens_given(teacher: Teacher) -> int | None:
    if teacher.classes is None:
        return tokens_of(teacher.module)
    return teacher.classes if isinstance(teacher.classes, int) else None


def _may_be_padded(student: nn.Module, teacher: Teacher) -> bool:
    own, other = tokens_of(student), tokens_of(teacher.module)
    if teacher.classes is not None or own is None or other is None or own == other:
        return True
    ours, theirs = _special_tokens(student), _special_tokens(teacher.module)
    named = ours.keys() & theirs.keys()
    alike = not named or any(ours[role] == theirs[role] for role in named)
    return alike and may_be_padded(own, other, at_least=_ROUNDED)


def _special_tokens(model: Any) -> dict[str, Any]:
    config = inside(model).config.get_text_config(decoder=True)
    found = {role: getattr(config, f"{role}_token_id", None) for role in ("bos", "eos", "pad")}
    return {role: token for role, token in found.items() if token is not None}
