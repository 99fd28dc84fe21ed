"""Language models whose vocabularies are padded to different sizes, in loops that say nothing of it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[text]")

from transformers import LlamaConfig, LlamaForCausalLM

from headstart.distill import Distiller, Projection, TeacherPool
from headstart.errors import TeacherError

FEW, MANY = 1000, 1008  # tokens: padded to a multiple of 16
ROWS = 6


class Rows(LlamaForCausalLM):
    """Gives a row for each token of its one sequence."""

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = super().forward(input_ids=input_ids).logits[0]
        return logits


def llama(tokens: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    made = Rows(LlamaConfig(vocab_size=tokens, **sizes))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    made.train(False)
    return made


def by_hand(own: Tensor, teachers: list[Tensor], labels: Tensor) -> Tensor:
    """Over the tokens that all have, in the rows whose label is one of them; the task loss over all that there are."""
    shared = min(one.shape[-1] for one in (own, *teachers))
    task = F.cross_entropy(own, labels)
    theirs = torch.stack([one[:, :shared].softmax(-1) for one in teachers]).mean(0)
    divergence = (theirs * (theirs.log() - own[:, :shared].log_softmax(-1))).sum(-1)
    return 0.5 * task + 0.5 * divergence[(labels != -100) & (labels < shared)].mean()


def a_batch(own: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(FEW, (ROWS,), generator=generator)
    labels[0] = -100
    labels[1] = own - 1  # where the student has more tokens, one of which teachers know nothing
    return torch.randint(FEW, (1, ROWS), generator=generator), labels


@pytest.mark.parametrize("form", ["called", "loss", "projected", "prefetched"])
@pytest.mark.parametrize(("own", "others"), [(FEW, [MANY]), (MANY, [FEW]), (MANY, [FEW, MANY]), (FEW, [MANY, FEW])])
def test_the_tokens_that_all_have_are_distilled(own: int, others: list[int], form: str) -> None:
    student, teachers = llama(own), [llama(tokens, seed) for seed, tokens in enumerate(others, 1)]
    tokens, labels = a_batch(own)
    logits = student(input_ids=tokens)
    expected = by_hand(logits, [teacher(input_ids=tokens) for teacher in teachers], labels)
    (wanted,) = torch.autograd.grad(expected, student.lm_head.weight, retain_graph=True)
    distiller = Distiller(TeacherPool(teachers, draw="all"), total_steps=2, temperature=1.0, weight=0.5)
    inputs = {"input_ids": tokens}
    with pytest.warns(UserWarning, match=rf"the first {FEW} are distilled, as if both had one tokenizer"):
        if form == "prefetched":
            distiller.prefetch(inputs)
        if form == "called":
            loss = distiller(F.cross_entropy(logits, labels), logits, inputs, labels=labels)
        elif form == "projected":
            hidden = student.model(input_ids=tokens).last_hidden_state[0]
            loss = distiller.loss(Projection(hidden, student.lm_head.weight, None), labels, inputs)
        else:
            loss = distiller.loss(logits, labels, inputs)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    (got,) = torch.autograd.grad(loss, student.lm_head.weight)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    distiller.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        distiller.loss(student(input_ids=tokens), labels, inputs)


@pytest.mark.parametrize("other", [1001, 1100], ids=["no size that is padded to", "too many more"])
def test_what_padding_does_not_make_is_refused(other: int) -> None:
    student, teacher = llama(FEW), llama(other)
    tokens, labels = a_batch(FEW)
    distiller = Distiller(teacher, total_steps=2)
    with pytest.raises(TeacherError, match="both need the same classes in the same order"):
        distiller.loss(student(input_ids=tokens), labels, {"input_ids": tokens})
