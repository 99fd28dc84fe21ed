"""What the benchmarks of steps on text share: made-up text, the step that headstart makes, and one written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.recipe.recipe import ClmRecipe, MlmRecipe
from headstart.train.optimizer import build_optimizer
from headstart.train.session import Session
from step_times import Step


def made_up_text(
    recipe: ClmRecipe | MlmRecipe,
    folder: Path,
    *,
    special: Sequence[str],
    unknown: str,
    wrap: Callable[[Any], Any],
    sequences: int,
) -> dict[str, Any]:
    """Write text of random words, and a tokenizer with as many tokens as the recipe's, to a folder.

    Args:
        recipe: Whose text it is.
        folder: Where to.
        special: The tokenizer's special tokens, the first of its numbers.
        unknown: Which of them stands for unknown words.
        wrap: Gives the tokenizer the form that transformers uses.
        sequences: How many the text is long.

    Returns:
        The overrides that make the recipe use them.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [f"w{number}" for number in range(recipe.data.vocab_size - len(special))]
    vocabulary = {token: number for number, token in enumerate((*special, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrap(tokenizer).save_pretrained(folder / "tokenizer")
    for split, count in (("train", sequences), ("test", 2)):
        drawn = torch.randint(len(words), (count * recipe.data.length,)).tolist()
        (folder / f"{split}.txt").write_text(" ".join(words[number] for number in drawn), encoding="utf-8")
    return {"data.name": str(folder), "data.tokenizer": str(folder / "tokenizer")}


def trained(session: Session) -> Step:
    """The step that `headstart train` makes, always the same one."""

    def step() -> Tensor:
        for part in (session.distiller, session.hidden):
            if part is not None:
                part.current_step = 0
        return session.train_step(0)

    return step


def by_hand(session: Session, logits_of: Callable[[nn.Module, dict[str, Tensor]], Tensor]) -> Step:
    """The session's step without headstart, except for its batch; losses are torch's own.

    Args:
        session: With a teacher or without.
        logits_of: Of a model and inputs, `[rows, vocabulary]`, the rows that are labelled.
    """
    student, config, distill = session.student, session.recipe.train, session.recipe.distill
    teacher = session.pool.live[0].module if session.pool is not None else None
    optimizer = build_optimizer(student, config)
    temperature, weight = (float(distill.temperature), float(distill.weight)) if distill is not None else (1.0, 0.0)

    def step() -> Tensor:
        batch = session.task.batch(0, config.batch_size)
        student.train()
        logits = logits_of(student, batch.inputs)
        loss = F.cross_entropy(logits, batch.labels)
        if teacher is not None and distill is not None:
            with torch.no_grad():
                targets = logits_of(teacher, batch.inputs) / temperature
            log_q, p = F.log_softmax(logits / temperature, dim=-1), F.softmax(targets, dim=-1)
            divergence = temperature**2 * F.kl_div(log_q, p, reduction="batchmean")
            loss = (1.0 - weight) * loss + weight * divergence
        torch.autograd.backward(loss)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(student.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step
