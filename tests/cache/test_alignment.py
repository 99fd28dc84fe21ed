"""Targets one place off are found, whoever made them; teachers that know little or nothing are left alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from headstart.cache.alignment import Alignment

CLASSES, K, LENGTH = 120, 8, 64


def text(sequences: int = 20, seed: int = 0) -> Tensor:
    """A chain of tokens, each of which has some that follow it often; tokens are not equally frequent."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(CLASSES, (sequences,), generator=generator)]
    for _ in range(LENGTH - 1):
        rows.append(chain()[rows[-1]].softmax(-1).multinomial(1, generator=generator).squeeze(1))
    return torch.stack(rows, 1)


def chain() -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return 2 * torch.randn(CLASSES, CLASSES, generator=generator) + torch.randn(CLASSES, generator=generator)


def judged(tokens: Tensor, logprobs: Tensor, *, off: int = 0) -> str | None:
    """Of log-probabilities of what follows each token, moved by some places: 1 puts each one place later."""
    alignment = Alignment(CLASSES)
    for row, given in zip(tokens, logprobs.roll(off, dims=1), strict=True):
        values, ids = given[:-1].topk(K)
        alignment.add(row, ids, values)
    return alignment.complaint()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_teacher_that_knows_the_chain_is_found_off_either_way(temperature: float) -> None:
    tokens = text()
    logprobs = (chain() / temperature).log_softmax(-1)[tokens]
    assert judged(tokens, logprobs) is None
    late, early = judged(tokens, logprobs, off=1), judged(tokens, logprobs, off=-1)
    assert late is not None and "one place too late. Put the entry of place t at place t - 1" in late
    assert early is not None and "one place too early. Put the entry of place t at place t + 1" in early


def test_one_that_knows_only_how_frequent_tokens_are_reads_alike_and_is_let_be() -> None:
    tokens = text()
    frequent = torch.bincount(tokens.flatten(), minlength=CLASSES).double().add(1).log().log_softmax(-1)
    for off in (-1, 0, 1):
        assert judged(tokens, frequent.expand(*tokens.shape, -1), off=off) is None


@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0])
def test_one_that_gives_anything_is_let_be(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(20, LENGTH, CLASSES, generator=generator)
    assert judged(text(), logits.log_softmax(-1)) is None


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("width", [8, 64, 256, 512])
def test_an_untrained_model_is_let_be_though_it_may_repeat_its_input(width: int, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=CLASSES, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    tokens = text()
    with torch.no_grad():
        logprobs = transformers.LlamaForCausalLM(config)(tokens).logits.log_softmax(-1)
    assert judged(tokens, logprobs) is None


def test_a_list_that_leaves_nothing_to_others_is_judged_alike() -> None:
    """Else the few tokens outside of it would decide alone."""
    tokens = text()
    known = chain().log_softmax(-1)[tokens]
    least = known.topk(K).values[..., -1:]
    listed = known.masked_fill(known < least, -torch.inf).log_softmax(-1)
    assert judged(tokens, listed) is None and judged(tokens, listed, off=1) is not None


def test_few_places_and_sequences_too_short_say_nothing() -> None:
    tokens = text(sequences=1)
    logprobs = chain().log_softmax(-1)[tokens]
    assert judged(tokens, logprobs, off=1) is None
    alignment = Alignment(CLASSES)
    alignment.add(torch.tensor([1, 2]), torch.tensor([[1]]), torch.tensor([[-0.1]]))
    assert alignment.complaint() is None


def test_the_numbers_in_the_message_are_those_of_the_text() -> None:
    """Of a pair of tokens in turn: e^1.5 times likelier at the 78 of 118 places that tell."""
    tokens = torch.tensor([0, 1] * 60)
    ids = torch.stack([tokens[:-1], tokens[1:]], 1)
    ids[::3] = 5  # a third says nothing of either
    ids[::3, 1] = 6
    logprobs = torch.tensor([[math.log(0.5), math.log(0.5) - 1.5]]).expand(119, 2)
    alignment = Alignment(classes=9)
    alignment.add(tokens, ids, logprobs)
    complaint = alignment.complaint()
    times = f"{math.exp(1.5 * 78 / 118):.3g}"
    assert complaint is not None
    assert complaint.startswith(f"over 118 places the targets make the token at a place {times} times likelier than")
