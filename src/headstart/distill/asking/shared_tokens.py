"""The tokens that a student and its teachers share, where only their logits tell that vocabularies are padded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch

from headstart.distill.heads.several import Output
from headstart.distill.objective import IGNORED
from headstart.distill.pool.pool import TeacherPool
from headstart.distill.pool.teacher import Teacher
from headstart.distill.vocabulary import may_be_padded, tokens_of


def share_tokens_with(pool: TeacherPool, own: int) -> int:
    """Have teachers give the tokens that all have, where their vocabularies may be the student's, padded otherwise.

    A vocabulary is padded at its end, so that those that all have are the first ones. Which tokens they are nobody
    says here: so much is warned of, and sizes that padding does not make (`may_be_padded`) are left as they are, to be
    refused.

    Args:
        pool: The teachers. Those with a map of classes of their own are left as they are, and so are targets that were
            made before.
        own: How many logits the student has.

    Returns:
        How many of these to distil.
    """
    free = [(teacher, tokens_of(teacher.module)) for teacher in pool.live if teacher.classes is None]
    counts = [(teacher, count) for teacher, count in free if count is not None]
    others = [(teacher, count) for teacher, count in counts if count != own]
    padded = all(may_be_padded(own, count) for _, count in others)
    if not others or not padded or len(pool.live) < len(pool.teachers):
        return own
    shared = min(own, *(count for _, count in others))
    give_first(counts, own, shared)
    return shared


def give_first(counts: Iterable[tuple[Teacher, int]], own: int, shared: int) -> None:
    """Have teachers give the first tokens alone, and warn of those whose vocabulary is taken for the student's.

    Args:
        counts: Each teacher, and how many tokens it gives logits for.
        own: How many the student has.
        shared: How many to give.
    """
    for teacher, count in counts:
        if teacher.classes is None and count != own:
            warnings.warn(
                f"teacher {teacher.name!r} has logits for {count} tokens, the student for {own}; the first {shared} "
                "are distilled, as if both had one tokenizer and a padded vocabulary. headstart.load_teacher(..., "
                "tokenizer=) makes sure of it",
                stacklevel=3,
            )
        if count != shared:
            teacher.classes = shared


def first_tokens(output: Output, shared: int) -> Output:
    """What is distilled of a head: of tokens that only the student has, nothing.

    Args:
        output: `[..., tokens]`, with labels `[...]` or probabilities `[..., tokens]`.
        shared: How many tokens to take.

    Example:
        >>> first_tokens(Output(torch.zeros(2, 8), torch.tensor([1, 6])), 5)
        Output(logits=tensor([[0., 0., 0., 0., 0.],
                [0., 0., 0., 0., 0.]]), labels=tensor([   1, -100]))
    """
    logits, labels = output
    if logits.shape[-1] <= shared:
        return output
    if labels is not None and labels.shape == logits.shape:
        labels = labels[..., :shared]
    elif labels is not None:
        labels = torch.where(labels >= shared, IGNORED, labels)
    return Output(logits[..., :shared], labels)
