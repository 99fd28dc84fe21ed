"""The masked-LM task: batches, loss, evaluation, and what a run leaves for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from headstart.errors import DataError, RecipeError
from headstart.tasks import Task
from headstart.tasks.text import (
    MaskedLM,
    MlmModel,
    check_same_vocabulary,
    read_tokenizer,
    read_vocabulary,
    restore_model,
)
from tests.tasks.text.tiny import FAMILIES, LENGTH, MASK, SPECIAL, TOKENS, corpus, data, model, tokenizer

PREDICTED = 5  # of 32 tokens


def make(*, seed: int = 0, student: MlmModel | None = None, **settings: Any) -> MaskedLM:
    return MaskedLM(student or model(), data(**settings), corpus(), seed=seed)


def restored(task: MaskedLM, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """The sequences before masking."""
    tokens = inputs["input_ids"].clone().flatten()
    tokens[inputs["masked_rows"]] = labels
    return tokens.view_as(inputs["input_ids"])


def test_a_batch_holds_the_sequences_of_its_samples() -> None:
    task: Task = make()
    batch = task.batch(3, 8)
    assert batch.samples.shape == (8,) and batch.epoch == 0 and task.batch(5, 8).epoch == 1
    assert batch.labels.shape == batch.inputs["masked_rows"].shape == (8 * PREDICTED,)
    assert torch.equal(restored(make(), batch.inputs, batch.labels), corpus().train.rows(batch.samples))


def test_an_epoch_shows_each_sequence_once_and_the_next_with_other_tokens_hidden() -> None:
    task = make()
    assert sorted(torch.cat([task.batch(step, 8).samples for step in range(5)]).tolist()) == list(range(40))
    hidden = []
    for epoch in (0, 1):
        batches = [task.batch(step, 8) for step in range(5 * epoch, 5 * epoch + 5)]
        order = torch.cat([batch.samples for batch in batches]).argsort()
        hidden.append(torch.cat([batch.inputs["input_ids"] for batch in batches])[order])
    assert not torch.equal(*hidden)


def test_a_batch_is_a_pure_function_of_seed_and_step() -> None:
    task, again, other = make(seed=1), make(seed=1), make(seed=2)
    expected = [task.batch(step, 10) for step in range(9)]
    for step in (8, 0, 5):
        torch.manual_seed(step)
        found = again.batch(step, 10)
        assert torch.equal(found.inputs["input_ids"], expected[step].inputs["input_ids"])
        assert torch.equal(found.inputs["masked_rows"], expected[step].inputs["masked_rows"])
    assert not torch.equal(other.batch(0, 10).inputs["input_ids"], expected[0].inputs["input_ids"])


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_put_together_are_the_batch(parts: int) -> None:
    task = make()
    whole, pieces = task.batch(7, 10), [task.batch(7, 10, part=part, parts=parts) for part in range(parts)]
    assert torch.equal(torch.cat([piece.inputs["input_ids"] for piece in pieces]), whole.inputs["input_ids"])
    assert torch.equal(torch.cat([piece.labels for piece in pieces]), whole.labels)
    shifted = [piece.inputs["masked_rows"] + part * 10 // parts * LENGTH for part, piece in enumerate(pieces)]
    assert torch.equal(torch.cat(shifted), whole.inputs["masked_rows"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_transformers_own_model(family: str) -> None:
    task = make(student=model(family))
    student, batch = task.build_model(), task.batch(0, 10)
    theirs = AutoModelForMaskedLM.from_config(task.config)
    theirs.load_state_dict(student.state_dict())
    labels = torch.full((10 * LENGTH,), -100)
    labels[batch.inputs["masked_rows"]] = batch.labels
    expected = theirs(input_ids=batch.inputs["input_ids"], labels=labels.view(10, LENGTH)).loss
    torch.testing.assert_close(task.loss(task.forward(student, batch.inputs), batch), expected)


def test_the_loss_is_computed_in_float32_and_smooths_labels_as_torch_does() -> None:
    task = MaskedLM(model(), data(), corpus(), label_smoothing=0.2)
    batch, logits = task.batch(0, 4), torch.randn(4 * PREDICTED, len(TOKENS)).bfloat16()
    expected = F.cross_entropy(logits.float(), batch.labels, label_smoothing=0.2)
    assert torch.equal(task.loss(logits, batch), expected)


def sheet(labels: Tensor, right: int) -> Tensor:
    """Logits that name the first few tokens rightly."""
    logits = torch.zeros(len(labels), len(TOKENS))
    logits[range(len(labels)), torch.where(torch.arange(len(labels)) < right, labels, MASK)] = 10.0
    return logits


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, list(range(30))), (100, list(range(30))), (6, [0, 5, 10, 15, 20, 25])]
)
def test_evaluation_takes_sequences_spread_over_the_held_out_text(limit: int | None, expected: list[int]) -> None:
    task = make(evaluate_sequences=limit)
    shown: list[Tensor] = []

    def forward(inputs: dict[str, Tensor]) -> Tensor:
        shown.append(inputs["input_ids"])
        return torch.zeros(len(inputs["masked_rows"]), len(TOKENS))

    found = task.evaluate(forward, size=4)
    tokens, seen = corpus().held_out.rows(torch.tensor(expected)), torch.cat(shown)
    assert len(seen) == len(expected)
    assert int((tokens != seen).sum(1).max()) <= PREDICTED
    assert found.quality == pytest.approx(torch.tensor(float(len(TOKENS))).log().item(), rel=1e-6)


def test_evaluation_hides_the_same_tokens_whatever_the_seed_and_the_batch_size() -> None:
    shown: list[list[Tensor]] = []
    for seed, size in ((0, 4), (5, 30)):
        shown.append([])

        def forward(inputs: dict[str, Tensor]) -> Tensor:
            shown[-1].append(inputs["input_ids"])
            return torch.zeros(len(inputs["masked_rows"]), len(TOKENS))

        make(seed=seed).evaluate(forward, size=size)
    assert torch.equal(torch.cat(shown[0]), torch.cat(shown[1]))


def test_loss_and_accuracy_are_those_of_the_masked_tokens() -> None:
    task = make()
    held_out, given = corpus().held_out, []

    def forward(inputs: dict[str, Tensor]) -> Tensor:
        labels = held_out.rows(torch.arange(30)).flatten()[inputs["masked_rows"]]
        given.append((sheet(labels, 60), labels))
        return given[-1][0]

    found = task.evaluate(forward)
    (logits, labels) = given[0]
    assert len(given) == 1 and labels.shape == (30 * PREDICTED,)
    assert found.others["masked_accuracy"] == pytest.approx(60 / 150)
    assert found.quality == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert not task.higher_is_better


def test_a_run_folder_is_read_by_transformers_and_by_us(tmp_path: Path) -> None:
    task = make()
    student, batch = task.build_model().eval(), task.batch(0, 4)
    task.save_beside(tmp_path)
    save_model(student, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    expected = student(**batch.inputs).logits
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path)
    full = theirs(input_ids=batch.inputs["input_ids"]).logits.flatten(0, 1)[batch.inputs["masked_rows"]]
    torch.testing.assert_close(full, expected)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer().get_vocab()
    teacher = restore_model(json.loads(json.dumps(task.describe())), length=LENGTH).eval()
    teacher.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(teacher(**batch.inputs).logits, expected)
    check_same_vocabulary(task.vocabulary, read_vocabulary(read_tokenizer(str(tmp_path))), "this run")


def test_a_run_folder_tells_what_the_text_was(tmp_path: Path) -> None:
    make().save_beside(tmp_path)
    assert json.loads((tmp_path / "text.json").read_text(encoding="utf-8")) == {
        "train": {"origin": "here", "sequences": 40},
        "held_out": {"origin": "there", "sequences": 30},
        "vocabulary": make().vocabulary.describe(),
    }


def test_the_description_says_what_a_teacher_needs() -> None:
    task = make()
    described = task.describe()
    assert described["task"] == "mlm" and described["length"] == LENGTH
    assert described["vocabulary"] == {"size": len(TOKENS), "fingerprint": task.vocabulary.fingerprint}
    assert described["model"] == model().model_dump()
    with pytest.raises(RecipeError, match=r"data.length=65 is more than the 64 positions"):
        restore_model(described, length=65)


def pretrained(folder: Path, tokens: tuple[str, ...]) -> MlmModel:
    """A checkpoint in a folder, trained with a tokenizer of these tokens."""
    AutoModelForMaskedLM.from_config(make().config).save_pretrained(folder)
    tokenizer(tokens).save_pretrained(folder)
    return MlmModel(name=f"hub:{folder}", pretrained=True)


def test_a_pretrained_student_starts_from_its_weights(tmp_path: Path) -> None:
    student = make(student=pretrained(tmp_path, TOKENS)).build_model()
    weights = AutoModelForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())


def test_a_pretrained_student_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    task = make(student=pretrained(tmp_path, (*TOKENS[:-1], "a" * 3)))
    with pytest.raises(RecipeError, match=r'another tokenizer than the text is cut with \(token 93 is "aaa" there'):
        task.build_model()


def test_a_tokenizer_without_a_mask_token_is_refused() -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(DataError, match="'wordpiece' has no mask token, which masked-language modelling needs"):
        MaskedLM(model(), data(), corpus(tokenizer=bare))


def test_sequences_longer_than_the_positions_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"data.length=65 is more than the 64 positions of BertForMaskedLM; shorten"):
        make(length=65).build_model()


def test_a_student_learns() -> None:
    task = make(student=model("modernbert"))
    student: nn.Module = task.build_model()
    before = task.evaluate(lambda inputs: task.forward(student, inputs)).quality
    frequent = torch.tensor(len(SPECIAL) + 3)
    task.corpus.train.tokens[:, 1:-1] = frequent  # type: ignore[attr-defined]
    task.corpus.held_out.tokens[:, 1:-1] = frequent  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    for step in range(15):
        batch = task.batch(step, 8)
        task.loss(task.forward(student, batch.inputs), batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert task.evaluate(lambda inputs: task.forward(student, inputs)).quality < 0.2 * before
