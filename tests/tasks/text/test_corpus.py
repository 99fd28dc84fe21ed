"""A whole corpus: from files to sequences, made once and kept."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from transformers import AutoTokenizer

from headstart.errors import DataError
from headstart.tasks.order import EpochOrder
from headstart.tasks.text import corpus as module
from headstart.tasks.text.config import MlmData
from headstart.tasks.text.corpus import load_corpus
from headstart.tasks.text.packing import Packer, Sequences, write_packed
from headstart.tasks.text.streaming import StreamOrder
from tests.tasks.text.words import word_tokenizer

TRAIN = [f"the cat number {number} sat on mat {number % 7}" for number in range(60)]
TEST = ["a dog lay under the table and looked at the cat", "no other cat came to the house that day"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    for split, texts in (("train", TRAIN), ("test", TEST)):
        parquet.write_table(pa.table({"text": texts}), tmp_path / "d" / f"{split}.parquet")
    return tmp_path / "d"


def settings(folder: Path, **more: Any) -> MlmData:
    return MlmData(name=str(folder), **{"length": 12, "vocab_size": 80, **more})


def everything(sequences: Sequences) -> list[list[int]]:
    rows: list[list[int]] = sequences.rows(torch.arange(len(sequences))).tolist()
    return rows


def forbid_making(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(module, "train_wordpiece", refuse)
    monkeypatch.setattr(module, "write_packed", refuse)


def test_sequences_hold_the_text_of_their_split(folder: Path) -> None:
    corpus = load_corpus(settings(folder))
    for sequences, texts in ((corpus.train, TRAIN), (corpus.held_out, TEST)):
        expected, _, _ = Packer(corpus.tokenizer, 12).pack(texts)
        assert everything(sequences) == expected.tolist()
    assert "the cat number 0 sat on" in str(corpus.tokenizer.decode(everything(corpus.train)[0]))


def test_description_counts_what_was_packed(folder: Path) -> None:
    corpus = load_corpus(settings(folder))
    described = corpus.describe()
    assert described["train"]["origin"] == str(folder / "train.parquet")
    assert described["held_out"]["origin"] == str(folder / "test.parquet")
    assert (described["train"]["documents"], described["held_out"]["documents"]) == (60, 2)
    assert described["train"]["sequences"] == len(corpus.train)
    assert described["vocabulary"]["size"] == len(corpus.tokenizer)


def test_second_load_comes_from_the_cache(folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_corpus(settings(folder))
    forbid_making(monkeypatch)
    second = load_corpus(settings(folder))
    assert everything(second.train) == everything(first.train)
    assert second.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    assert second.describe() == first.describe()
    kept = [path.suffix for path in own_cache.rglob("*") if path.is_file()]
    assert sorted(set(kept) - {".lock"}) == [".arrow", ".json"]


@pytest.mark.parametrize(
    "change", [{"length": 13}, {"vocab_size": 90}, {"lowercase": False}, {"documents": 40}, {"holdout": 3}]
)
def test_other_settings_are_made_anew(folder: Path, change: dict[str, Any]) -> None:
    texts = [text.replace("cat", "Cat") if number % 2 else text for number, text in enumerate(TRAIN)]
    parquet.write_table(pa.table({"text": texts}), folder / "train.parquet")
    before = everything(load_corpus(settings(folder)).train)
    assert everything(load_corpus(settings(folder, **change)).train) != before


def test_changed_text_is_packed_again(folder: Path) -> None:
    before = everything(load_corpus(settings(folder)).train)
    status = (folder / "train.parquet").stat()
    parquet.write_table(pa.table({"text": TRAIN[::-1]}), folder / "train.parquet")
    os.utime(folder / "train.parquet", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert everything(load_corpus(settings(folder)).train) != before


@pytest.mark.parametrize("keep", [0, 50, -30])
def test_broken_cache_is_made_again(folder: Path, own_cache: Path, caplog: pytest.LogCaptureFixture, keep: int) -> None:
    before = everything(load_corpus(settings(folder)).train)
    for path in own_cache.rglob("*"):
        if path.suffix in (".arrow", ".json"):
            path.write_bytes(path.read_bytes()[:keep])
    assert everything(load_corpus(settings(folder)).train) == before
    assert "making it again" in caplog.text


def test_two_at_once_make_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(path: Path, *arguments: Any, **options: Any) -> None:
        made.append(path)
        write_packed(path, *arguments, **options)

    monkeypatch.setattr(module, "write_packed", counted)
    results: list[list[list[int]]] = []
    threads = [
        threading.Thread(target=lambda: results.append(everything(load_corpus(settings(folder)).train)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 2
    assert results[0] == results[1] == results[2]


def test_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written.*HEADSTART_CACHE"):
        load_corpus(settings(folder))


def test_a_tokenizer_may_be_given(folder: Path, tmp_path: Path) -> None:
    given = word_tokenizer()
    given.save_pretrained(tmp_path / "tokenizer")
    corpus = load_corpus(settings(folder, tokenizer=str(tmp_path / "tokenizer")))
    assert corpus.tokenizer.get_vocab() == given.get_vocab()


@pytest.mark.parametrize("streaming", [False, True])
def test_documents_without_text_train_no_tokenizer(folder: Path, streaming: bool) -> None:
    parquet.write_table(pa.table({"text": ["", " \n", None]}), folder / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: all 3 documents .* are empty; give some with text"):
        load_corpus(settings(folder, streaming=streaming))


def test_the_tokenizer_is_saved_for_others(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(settings(folder))
    corpus.save_tokenizer(tmp_path / "run")
    again = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert again("the cat sat")["input_ids"] == corpus.tokenizer("the cat sat")["input_ids"]


def test_held_out_documents_train_no_tokenizer(tmp_path: Path) -> None:
    marks = [f"the cat sat {chr(0x3B1 + number)}" for number in range(20)]  # each with a Greek letter of its own
    parquet.write_table(pa.table({"text": marks}), tmp_path / "train.parquet")
    corpus = load_corpus(settings(tmp_path, holdout=8, vocab_size=200))
    known = [letter for letter in corpus.tokenizer.get_vocab() if len(letter) == 1 and letter >= "\u03b1"]
    assert len(known) == 12


def test_a_streamed_corpus(folder: Path) -> None:
    data = settings(folder, streaming=True, evaluate_sequences=1)
    corpus = load_corpus(data, seed=3)
    assert len(corpus.held_out) == 1
    assert everything(corpus.held_out) == everything(load_corpus(settings(folder)).held_out)[:1]
    numbers = torch.arange(100)
    rows = corpus.train.rows(numbers)
    assert rows.shape == (100, 12)
    assert torch.equal(load_corpus(data, seed=3).train.rows(numbers), rows)
    assert not torch.equal(load_corpus(data, seed=4).train.rows(numbers), rows)
    assert corpus.describe()["train"] == {"origin": str(folder / "train.parquet"), "files": 1, "lanes": 1}


def test_streams_are_seen_in_their_order_and_others_shuffled(folder: Path) -> None:
    assert isinstance(load_corpus(settings(folder, streaming=True)).order(0), StreamOrder)
    order = load_corpus(settings(folder)).order(5)
    assert isinstance(order, EpochOrder)
    assert order.seed == 5


def test_real_wikipedia(research_data: Path) -> None:
    corpus = load_corpus(MlmData(name="wikipedia-en-2015-small", documents=20, vocab_size=1000))
    assert len(corpus.tokenizer) == 1000
    rows = corpus.train.rows(torch.arange(len(corpus.train)))
    unknown = rows == corpus.tokenizer.unk_token_id
    assert float(unknown.float().mean()) < 0.005
    assert corpus.describe()["held_out"]["documents"] == 73
