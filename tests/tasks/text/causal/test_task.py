"""The causal-LM task: batches, loss and gradients beside transformers' own, evaluation, and what a run leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from headstart.distill import Projection
from headstart.distill.projection import as_logits
from headstart.errors import DataError, RecipeError
from headstart.tasks import Batch, Task
from headstart.tasks.text import CausalLM, ClmModel
from headstart.tasks.text.causal.models import restore_causal_model
from tests.tasks.text.causal_tiny import COUNTS, FAMILIES, LENGTH, TOKENS, corpus, data, model, tokenizer


def make(*, seed: int = 0, student: ClmModel | None = None, **settings: Any) -> CausalLM:
    return CausalLM(student or model(), data(**settings), corpus(), seed=seed)


def transformers_own(task: CausalLM, student: nn.Module) -> Any:
    """A model of transformers without anything of ours, with the same weights."""
    theirs = AutoModelForCausalLM.from_config(task.config)
    theirs.load_state_dict(student.state_dict())
    return theirs


def documents(row: Tensor) -> list[Tensor]:
    """A sequence cut before each token that begins a document."""
    starts = [0, *(place for place in (row == 0).nonzero().flatten().tolist() if place)]
    return [row[begin:end] for begin, end in zip(starts, [*starts[1:], len(row)], strict=True)]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_batch_holds_the_sequences_of_its_samples_and_the_tokens_after() -> None:
    task: Task = make()
    batch = task.batch(1, 8)
    tokens = corpus().train.rows(batch.samples)
    assert torch.equal(batch.inputs["input_ids"], tokens) and batch.epoch == 0 and task.batch(3, 8).epoch == 1
    assert torch.equal(batch.labels, tokens[:, 1:].flatten())
    rows = batch.inputs["next_token_rows"]
    assert torch.equal(tokens.flatten()[rows], tokens[:, :-1].flatten())
    assert torch.equal(tokens.flatten()[rows + 1], batch.labels)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_put_together_are_the_batch(parts: int) -> None:
    task = make()
    whole, pieces = task.batch(4, 8), [task.batch(4, 8, part=part, parts=parts) for part in range(parts)]
    for name in ("input_ids", "position_ids"):
        assert torch.equal(torch.cat([piece.inputs[name] for piece in pieces]), whole.inputs[name])
    assert torch.equal(torch.cat([piece.labels for piece in pieces]), whole.labels)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_transformers_own_model(family: str, apart: bool) -> None:
    task = make(student=model(family), documents_apart=apart)
    student, batch = task.build_model(), task.batch(0, 8)
    theirs = transformers_own(task, student)
    logits = task.forward(student, batch.inputs)
    assert isinstance(logits, Projection)
    task.loss(logits, batch).backward()  # type: ignore[no-untyped-call]
    tokens = batch.inputs["input_ids"]
    positions = {"position_ids": batch.inputs["position_ids"]} if apart else {}
    expected = theirs(input_ids=tokens, labels=tokens, use_cache=False, **positions).loss
    expected.backward()
    torch.testing.assert_close(task.loss(task.forward(student, batch.inputs), batch), expected)
    check_equal(gradients(student), gradients(theirs))


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_train_like_documents_alone(family: str) -> None:
    """Each document padded to a batch of its own, and the token that ends it predicted as its last: the same sum."""
    task = make(student=model(family))
    student, batch = task.build_model(), task.batch(0, 8)
    theirs, total = transformers_own(task, student), torch.zeros(())
    for row in batch.inputs["input_ids"]:
        pieces = documents(row)
        for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
            given = piece if following is None else torch.cat([piece, following[:1]])
            padded = F.pad(given, (0, LENGTH + 1 - len(given)))
            mask = (torch.arange(LENGTH + 1) < len(given)).long()
            labels = padded.masked_fill(mask == 0, -100)
            if len(given) > 1:
                out = theirs(input_ids=padded[None], attention_mask=mask[None], labels=labels[None])
                total = total + out.loss * (len(given) - 1)
    (total / len(batch.labels)).backward()  # type: ignore[no-untyped-call]
    loss = task.loss(task.forward(student, batch.inputs), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, total / len(batch.labels))
    check_equal(gradients(student), gradients(theirs))


def test_the_loss_smooths_labels_as_torch_does() -> None:
    task = CausalLM(model(), data(), corpus(), label_smoothing=0.2)
    batch, student = task.batch(0, 4), task.build_model()
    logits = task.forward(student, batch.inputs)
    expected = F.cross_entropy(as_logits(logits), batch.labels, label_smoothing=0.2)
    torch.testing.assert_close(task.loss(logits, batch), expected)
    torch.testing.assert_close(task.loss(as_logits(logits), batch), expected)


@pytest.mark.parametrize(("limit", "size"), [(None, 4), (4, 16)])
def test_evaluation_is_transformers_own_loss_on_sequences_spread_over_the_text(limit: int | None, size: int) -> None:
    task = make(evaluate_sequences=limit, documents_apart=False)
    student = task.build_model().eval()
    found = task.evaluate(lambda inputs: task.forward(student, inputs), size=size)
    tokens = corpus().held_out.rows(torch.arange(10) if limit is None else torch.tensor([0, 2, 5, 7]))
    with torch.no_grad():
        out = transformers_own(task, student).eval()(input_ids=tokens, labels=tokens)
    assert found.quality == pytest.approx(out.loss.item(), rel=1e-5)
    right = (out.logits[:, :-1].argmax(-1) == tokens[:, 1:]).float().mean().item()
    assert found.others["next_token_accuracy"] == pytest.approx(right)
    per_byte = (COUNTS["tokens"] + COUNTS["documents"]) / COUNTS["bytes"]
    assert found.others["bits_per_byte"] == pytest.approx(out.loss.item() / math.log(2) * per_byte, rel=1e-5)
    assert found.rows == len(tokens) * (LENGTH - 1) and not task.higher_is_better


def test_parts_of_an_evaluation_put_together_are_the_whole() -> None:
    task = make()
    student = task.build_model().eval()

    def forward(inputs: Any) -> Any:
        return task.forward(student, inputs)

    whole, parts = task.evaluate(forward, size=2), [task.evaluate(forward, part=n, parts=3, size=2) for n in range(3)]
    assert sum(part.rows for part in parts) == whole.rows
    assert sum(part.quality * part.rows for part in parts) / whole.rows == pytest.approx(whole.quality, rel=1e-6)


def test_a_run_folder_is_read_by_transformers_and_by_us(tmp_path: Path) -> None:
    task = make(documents_apart=False)
    student, batch = task.build_model().eval(), task.batch(0, 4)
    task.save_beside(tmp_path)
    save_model(student, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    expected = as_logits(task.forward(student, batch.inputs))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    full = theirs(input_ids=batch.inputs["input_ids"]).logits.flatten(0, 1)[batch.inputs["next_token_rows"]]
    torch.testing.assert_close(full, expected)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer().get_vocab()
    teacher = restore_causal_model(json.loads(json.dumps(task.describe())), length=LENGTH).eval()
    teacher.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(as_logits(teacher(**batch.inputs).logits), expected)


def pretrained(folder: Path, tokens: tuple[str, ...]) -> ClmModel:
    """A checkpoint in a folder, trained with a tokenizer of these tokens."""
    AutoModelForCausalLM.from_config(make().config).save_pretrained(folder)
    tokenizer(tokens).save_pretrained(folder)
    return ClmModel(name=f"hub:{folder}", pretrained=True)


def test_a_pretrained_student_starts_from_its_weights(tmp_path: Path) -> None:
    student = make(student=pretrained(tmp_path, TOKENS)).build_model()
    weights = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())


def test_a_pretrained_student_whose_tokenizer_differs_in_one_token_is_refused(tmp_path: Path) -> None:
    task = make(student=pretrained(tmp_path, (*TOKENS[:-1], "zz")))
    with pytest.raises(RecipeError, match=r'another tokenizer than the text is cut with \(token 36 is "zz" there'):
        task.build_model()


def test_a_tokenizer_that_cannot_tell_documents_apart_is_refused() -> None:
    bare = tokenizer()
    bare.eos_token = bare.bos_token = None
    with pytest.raises(DataError, match=r"'bpe' has no token that ends texts .*; take a causal"):
        CausalLM(model(), data(), corpus(tokenizer=bare))


@pytest.mark.parametrize(
    ("student", "settings", "message"),
    [
        (model(), {"length": 65}, r"data.length=65 is more than the 64 positions of LlamaForCausalLM; shorten"),
        (
            ClmModel(name="bloom", config={"hidden_size": 32, "n_layer": 1, "n_head": 2}),
            {},
            r"BloomForCausalLM cannot keep the documents .*; set data.documents_apart=false",
        ),
        (
            ClmModel(name="bert", config={"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2}),
            {"documents_apart": False},
            r"BertLMHeadModel sees the tokens that it is to predict; .*is_decoder: true",
        ),
        (
            ClmModel(name="qwen3", config={"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}),
            {},
            r"model.config: Qwen3ForCausalLM cannot compute so",
        ),
    ],
)
def test_students_that_cannot_do_it_are_refused(student: ClmModel, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(student=student, **settings).build_model()


def test_a_model_that_keeps_no_documents_apart_trains_where_they_need_not_be() -> None:
    student = ClmModel(name="bloom", config={"hidden_size": 32, "n_layer": 1, "n_head": 2})
    task = make(student=student, documents_apart=False)
    batch = task.batch(0, 4)
    assert "position_ids" not in batch.inputs
    assert isinstance(task.forward(task.build_model(), batch.inputs), Projection)


def learned(task: CausalLM, student: nn.Module, steps: int) -> None:
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    for step in range(steps):
        batch: Batch = task.batch(step, 8)
        task.loss(task.forward(student, batch.inputs), batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def test_a_student_learns() -> None:
    task = make()
    for part in (task.corpus.train, task.corpus.held_out):
        part.tokens[:] = torch.arange(LENGTH) % 5  # type: ignore[attr-defined]
    student = task.build_model()
    before = task.evaluate(lambda inputs: task.forward(student, inputs)).quality
    learned(task, student, 20)
    assert task.evaluate(lambda inputs: task.forward(student, inputs)).quality < 0.2 * before
