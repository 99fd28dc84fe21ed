"""The masked head: the same logits and gradients as the full computation, whatever is wrapped around the model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, PreTrainedModel

from headstart.distill import Teacher
from headstart.tasks.text import masked_head
from headstart.tasks.text.masking import Masked, Masking
from headstart.tasks.text.model_config import build_config
from headstart.tasks.text.models import build_model
from headstart.tasks.text.vocabulary import read_vocabulary
from tests.tasks.text.tiny import FAMILIES, MASK, TOKENS, Sequences, model, tokenizer

VOCABULARY = read_vocabulary(tokenizer())
HEADS = {"bert": "cls", "roberta": "lm_head", "distilbert": "vocab_transform", "modernbert": "head"}


def build(family: str = "bert", *, seed: int = 0, columns: int = len(TOKENS), **settings: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = build_config(model(family, **settings), VOCABULARY)
    config.vocab_size = settings.get("vocab_size", config.vocab_size)
    return build_model(config, columns=columns)


def plain(like: PreTrainedModel) -> PreTrainedModel:
    """The same model without hooks."""
    found: PreTrainedModel = AutoModelForMaskedLM.from_config(like.config).to(like.dtype)
    found.load_state_dict(like.state_dict())
    return found


@pytest.fixture(scope="module")
def masked() -> Masked:
    return Masking(VOCABULARY, 0.15)(Sequences(6, seed=0).tokens, torch.arange(6), seed=0, epoch=0)


def inputs(masked: Masked) -> dict[str, Tensor]:
    return {"input_ids": masked.input_ids, "masked_rows": masked.masked_rows}


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_the_full_computation_in_value_and_gradient(family: str, masked: Masked) -> None:
    fast = build(family).double()
    slow = plain(fast)
    logits = fast(**inputs(masked)).logits
    full = slow(input_ids=masked.input_ids).logits.flatten(0, 1)[masked.masked_rows]
    assert logits.shape == (6 * 5, len(TOKENS))
    torch.testing.assert_close(logits, full, rtol=1e-12, atol=1e-12)
    for output in (logits, full):
        F.cross_entropy(output, masked.labels).backward()  # type: ignore[no-untyped-call]
    found, expected = gradients(fast), gradients(slow)
    assert found.keys() == expected.keys() == dict(fast.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_transformers(family: str, masked: Masked) -> None:
    fast = build(family).double()
    labels = torch.full((masked.input_ids.numel(),), -100)
    labels[masked.masked_rows] = masked.labels
    theirs = plain(fast)(input_ids=masked.input_ids, labels=labels.view_as(masked.input_ids)).loss
    ours = F.cross_entropy(fast(**inputs(masked)).logits, masked.labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)  # ModernBERT's own is computed in float32


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_sees_masked_rows_only(family: str, masked: Masked) -> None:
    fast, seen = build(family), []
    head = fast.get_submodule(HEADS[family])
    head.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    fast(**inputs(masked))
    assert seen == [(6 * 5, 32)]


def test_without_masked_rows_and_after_a_failed_call_all_logits_come(masked: Masked) -> None:
    fast = build()
    with pytest.raises(IndexError):
        fast(input_ids=masked.input_ids + 1000, masked_rows=masked.masked_rows)
    logits = fast(input_ids=masked.input_ids).logits
    torch.testing.assert_close(logits, plain(fast)(input_ids=masked.input_ids).logits)


def test_names_of_weights_stay() -> None:
    fast = build()
    assert fast.state_dict().keys() == AutoModelForMaskedLM.from_config(fast.config).state_dict().keys()


def test_columns_of_padding_are_cut_off(masked: Masked) -> None:
    fast = build(columns=90)
    full = plain(fast)(input_ids=masked.input_ids).logits.flatten(0, 1)[masked.masked_rows]
    torch.testing.assert_close(fast(**inputs(masked)).logits, full[:, :90])


def test_another_family_picks_from_all_logits_and_says_so_once(
    masked: Masked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(masked_head, "_told", set())
    with caplog.at_level(logging.WARNING, "headstart"):
        fast, _ = build("electra"), build("electra")
    assert [record.message for record in caplog.records if "masked-LM head is not known" in record.message] == [
        "electra: its masked-LM head is not known, so logits are computed for all positions and not for the masked "
        "ones alone; known are bert, roberta, distilbert, modernbert"
    ]
    full = plain(fast)(input_ids=masked.input_ids).logits.flatten(0, 1)[masked.masked_rows]
    torch.testing.assert_close(fast(**inputs(masked)).logits, full)


def test_a_teacher_sees_the_masked_tokens_and_gives_the_same_rows(masked: Masked) -> None:
    module = build(seed=1)
    logits = Teacher(module).logits(inputs(masked))
    full = plain(module).eval()(input_ids=masked.input_ids).logits.flatten(0, 1)[masked.masked_rows]
    torch.testing.assert_close(logits, full)


def test_a_copy_works_by_itself(masked: Masked) -> None:
    fast = build()
    other = copy.deepcopy(fast)
    expected = fast(**inputs(masked)).logits
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.zero_()
    torch.testing.assert_close(other(**inputs(masked)).logits, expected)
    assert other(input_ids=masked.input_ids).logits.shape == (6, 32, len(TOKENS))


@pytest.mark.slow
def test_a_compiled_model_agrees_and_is_one_graph(masked: Masked) -> None:
    fast = build("distilbert", num_hidden_layers=1)
    expected = fast(**inputs(masked)).logits
    compiled = torch.compile(fast, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**inputs(masked)).logits, expected)


@pytest.fixture
def one_process() -> Iterator[None]:
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_a_wrapped_model_agrees(wrap: str, one_process: None, masked: Masked) -> None:
    fast = build()
    expected = fast(**inputs(masked)).logits
    F.cross_entropy(expected, masked.labels).backward()  # type: ignore[no-untyped-call]
    gradient = gradients(fast)["bert.embeddings.word_embeddings.weight"].clone()
    fast.zero_grad()
    wrapped: nn.Module = fast
    if wrap == "ddp":
        wrapped = nn.parallel.DistributedDataParallel(fast)
    else:
        mesh = init_device_mesh("cpu", (1,))
        fully_shard(fast.get_submodule("bert.encoder.layer.0"), mesh=mesh)
        fully_shard(fast, mesh=mesh)
    logits = wrapped(**inputs(masked)).logits
    torch.testing.assert_close(logits, expected)
    F.cross_entropy(logits, masked.labels).backward()  # type: ignore[no-untyped-call]
    found: Any = gradients(fast)["bert.embeddings.word_embeddings.weight"]
    torch.testing.assert_close(found.full_tensor() if wrap == "fsdp" else found, gradient)


def test_under_autocast_only_rounding_differs(masked: Masked) -> None:
    fast = build()
    expected = fast(**inputs(masked)).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = fast(**inputs(masked)).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.02)
    assert MASK in masked.input_ids
