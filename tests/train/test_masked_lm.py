"""Masked-language recipes from end to end: distilled, killed, resumed, read by transformers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

from headstart.errors import HeadstartError, InitError
from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.tasks.text import MlmData, load_corpus
from headstart.train.run import train
from headstart.train.session import Session
from tests.tasks.text.words import word_tokenizer
from tests.tiny import weight_bits
from tests.train.dying import train_until_killed

SETTINGS: dict[str, Any] = {
    "task": "mlm",
    "model": {"name": "bert", "size": "tiny", "config": {"hidden_size": 16, "intermediate_size": 32}},
    "train": {
        "steps": 12,
        "batch_size": 8,
        "optimizer": "adamw",
        "lr": 0.01,
        "precision": "fp32",
        "log_every": 2,
        "checkpoint_every": 4,
        "deterministic": torch.cuda.is_available(),
    },
}


def sentences(count: int, seed: int) -> list[str]:
    """Words of two letters; another seed has other ones."""
    generator = random.Random(seed)
    words = ["".join(generator.sample("abcdefghij" if seed else "klmnopqrst", 2)) for _ in range(20)]
    return [" ".join(generator.choices(words, k=12)) for _ in range(count)]


def write_text(folder: Path, *, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for split, count in (("train", 400), ("test", 60)):
        (folder / f"{split}.txt").write_text("\n".join(sentences(count, seed=seed)), encoding="utf-8")
    return folder


def recipe(text: Path, **more: Any) -> Recipe:
    data = {"name": str(text), "vocab_size": 80, "length": 16, "evaluate_sequences": 20}
    return parse_recipe({**SETTINGS, "data": data, **more}, "tiny masked LM")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "sentences")


@pytest.fixture(scope="module")
def teacher(text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("masked-lm") / "teacher"
    train(recipe(text), folder)
    return str(folder)


@pytest.mark.parametrize("loss", ["kl", "dkd", "dist"])
def test_a_killed_and_resumed_training_gives_the_same_bits(loss: str, text: Path, teacher: str, tmp_path: Path) -> None:
    """With losses of each way through the code: by rows in one pass, by labels, and across the batch."""
    distilled = recipe(text, distill={"teachers": [teacher], "loss": loss, "stop": 0.75})
    train(distilled, tmp_path / "whole")
    train_until_killed(distilled, tmp_path / "killed", "after the first checkpoint")
    train(distilled, tmp_path / "killed")
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")


def test_a_killed_and_resumed_stream_gives_the_same_bits(text: Path, tmp_path: Path) -> None:
    data = {"name": str(text), "streaming": True, "vocab_size": 80, "length": 16, "evaluate_sequences": 20}
    streamed = recipe(text, data=data)
    whole = train(streamed, tmp_path / "whole")
    train_until_killed(streamed, tmp_path / "killed", "after the first checkpoint")
    assert train(streamed, tmp_path / "killed").quality == whole.quality
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")


def test_micro_batches_give_the_gradient_of_the_whole(text: Path, teacher: str, tmp_path: Path) -> None:
    """Each sequence hides as many tokens as any other, so that the mean over parts is the mean over all."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = {**SETTINGS["model"], "config": {**SETTINGS["model"]["config"], **still}}
    settings = {"model": model, "distill": {"teachers": [teacher]}}
    one, two = (recipe(text, train={**SETTINGS["train"], "accumulate": parts}, **settings) for parts in (1, 2))
    whole, parts = (train(run, tmp_path / str(run.train.accumulate)) for run in (one, two))
    assert parts.quality == pytest.approx(whole.quality, rel=1e-4)


def write_text_with_unknown_words(folder: Path) -> dict[str, Any]:
    """Of every two documents one has no token to hide; the data section for them."""
    word_tokenizer().save_pretrained(folder / "tokenizer")
    generator = random.Random(5)
    for split in ("train", "test"):
        known = [" ".join(generator.choices("abcdefgh", k=generator.randint(5, 40))) for _ in range(60)]
        unknown = [" ".join(generator.choices("àéîö", k=generator.randint(5, 40))) for _ in range(60)]
        documents = [document for pair in zip(known, unknown, strict=True) for document in pair]
        (folder / f"{split}.txt").write_text("\n\n".join(documents), encoding="utf-8")
    return {"name": str(folder), "tokenizer": str(folder / "tokenizer"), "length": 16, "mask": 0.5}


@pytest.mark.parametrize("loss", [None, "kl", "mse"])
def test_micro_batches_that_hide_different_numbers_of_tokens_train_like_the_whole(
    loss: str | None, tmp_path: Path
) -> None:
    data = write_text_with_unknown_words(tmp_path / "text")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = {**SETTINGS["model"], "config": {**SETTINGS["model"]["config"], **still}}
    plain = {"optimizer": "sgd", "lr": 0.5, "momentum": 0.0}  # Adam would hide the size of a gradient
    taught: dict[str, Any] = {}
    if loss is not None:
        train(recipe(tmp_path, data=data, model=model), tmp_path / "teacher")
        taught = {"distill": {"teachers": [str(tmp_path / "teacher")], "loss": loss, "stop": 1.0}}
    runs = {}
    for parts in (1, 4):
        settings = {**SETTINGS["train"], **plain, "accumulate": parts}
        session = Session(recipe(tmp_path, data=data, model=model, train=settings, **taught))
        counts = {int((session.batch(0, micro).labels != -100).sum()) for micro in range(parts)}
        for step in range(4):
            session.train_step(step)
        runs[parts] = {name: value.clone() for name, value in session.student.state_dict().items()}
    assert len(counts) > 1
    for name, value in runs[1].items():
        torch.testing.assert_close(runs[4][name], value, rtol=1e-4, atol=1e-6)


def test_a_run_folder_is_a_checkpoint_of_transformers(teacher: str) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, info = AutoModelForMaskedLM.from_pretrained(teacher, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    logits = model(**tokenizer("a word [MASK]", return_tensors="pt")).logits
    assert logits.shape[-1] == model.config.vocab_size


def test_tokens_are_matched_by_their_text_and_new_ones_start_fresh(teacher: str, text: Path, tmp_path: Path) -> None:
    other = write_text(tmp_path / "other", seed=1)
    session, fresh = Session(recipe(other, init={"from": teacher})), Session(recipe(other))
    own, theirs = (vocabulary_of(path) for path in (other, text))
    source = load_file(Path(teacher) / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    rows, before = (each.student.get_parameter("bert.embeddings.word_embeddings.weight") for each in (session, fresh))
    shared = own.keys() & theirs.keys()
    assert {"[MASK]", "[CLS]"} <= shared and len(shared) < len(own)
    for token, number in own.items():
        assert torch.equal(rows[number], source[theirs[token]] if token in shared else before[number])
    with pytest.raises(InitError, match=r"init.from=.*teacher: require=1: only"):
        Session(recipe(other, train={**SETTINGS["train"], "init_from": teacher}))


@pytest.mark.parametrize(
    ("config", "share"),
    [
        ({}, 1.0),
        ({"num_hidden_layers": 1}, 1.0),
        ({"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 1}, 1.0),
    ],
)
def test_a_run_starts_from_another_of_the_same_text(
    config: dict[str, Any], share: float, teacher: str, text: Path
) -> None:
    wider = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    model = {**SETTINGS["model"], "config": {**wider, **config}}
    source = train(recipe(text, model={**SETTINGS["model"], "config": wider}), text.parent / "two heads")
    assert source.init is None
    session = Session(recipe(text, model=model, init={"from": str(text.parent / "two heads")}))
    assert session.initial is not None and session.initial.inherited["share"] == share
    assert session.initial.flops == 0
    if not config:
        expected = load_file(text.parent / "two heads" / "model.safetensors")
        state = session.student.state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_units_are_scored_on_training_text(teacher: str, text: Path) -> None:
    model = {**SETTINGS["model"], "config": {"hidden_size": 16, "intermediate_size": 8}}
    init = {"from": teacher, "scores": "activation", "compensate": True, "batches": 2}
    session = Session(recipe(text, model=model, init=init))
    assert session.initial is not None and session.initial.flops > 0
    assert any("compensated" in row["what"] for row in session.initial.inherited["tensors"])


def vocabulary_of(text: Path) -> dict[str, int]:
    corpus = load_corpus(MlmData(name=str(text), vocab_size=80, length=16))
    return dict(corpus.tokenizer.get_vocab())


def test_a_teacher_of_another_tokenizer_is_refused_before_the_first_step(teacher: str, tmp_path: Path) -> None:
    other = write_text(tmp_path / "other", seed=1)
    with pytest.raises(HeadstartError, match="tokenizer"):
        train(recipe(other, distill={"teachers": [teacher]}), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
