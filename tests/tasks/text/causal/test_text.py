"""Tokenizers, packed documents and whole corpora for the prediction of next tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from headstart.errors import DataError
from headstart.tasks.text import ClmData, load_corpus
from headstart.tasks.text.causal.packing import CausalPacker, positions_in_documents
from headstart.tasks.text.causal.tokenizer import END, boundary, read_causal_tokenizer, train_bpe, wrap_bpe
from tests.tasks.text.causal_tiny import TOKENS, tokenizer
from tests.tasks.text.tiny import tokenizer as masked_tokenizer

TEXTS = ["The lowest of the low fell lower.", "Café widest — newest: wider\tand newer!", "low\n\nnew 42 \U0001f600"] * 3


def test_any_text_comes_back_byte_for_byte() -> None:
    trained = train_bpe(TEXTS, 320)
    for text in (*TEXTS, "日本語 never seen", " two  spaces "):
        assert trained.decode(trained.encode(text).ids) == text
    assert trained.get_vocab_size() <= 320 and trained.token_to_id(END) == 0


def test_the_same_text_gives_the_same_numbers() -> None:
    first = train_bpe(TEXTS, 340).to_str()
    assert all(train_bpe(TEXTS, 340).to_str() == first for _ in range(5))


def test_a_trained_tokenizer_is_read_back_by_transformers_and_by_us(tmp_path: Path) -> None:
    trained = wrap_bpe(train_bpe(TEXTS, 320))
    trained.save_pretrained(tmp_path)
    for again in (read_causal_tokenizer(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)):
        assert again("The lowest")["input_ids"] == trained("The lowest")["input_ids"]
        assert again.eos_token_id == again.bos_token_id == 0


def test_between_documents_stand_an_end_and_a_beginning() -> None:
    assert boundary(tokenizer()) == [0]
    both = tokenizer()
    both.eos_token, both.bos_token = "a", "b"
    assert boundary(both) == [1, 2]
    both.eos_token = None
    assert boundary(both) == [2]


def test_a_tokenizer_with_neither_is_refused(tmp_path: Path) -> None:
    masked_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"data\.tokenizer: .* has no token that ends texts \(eos_token\) or begins"):
        read_causal_tokenizer(str(tmp_path))
    with pytest.raises(DataError, match=r"cannot be read as a tokenizer.*; give another, or `bpe` to train one"):
        read_causal_tokenizer("owner/no-such-tokenizer")


def packed(texts: list[str], length: int, made: PreTrainedTokenizerFast | None = None) -> tuple[list[Any], list[int]]:
    rows, left, _ = CausalPacker(made or tokenizer(), length).pack(texts)
    return rows.tolist(), left.tolist()


def test_documents_follow_one_another_with_a_token_between() -> None:
    assert packed(["abc", "", "de", "f"], 4) == ([[0, 1, 2, 3], [0, 4, 5, 0]], [6, 0])
    both = tokenizer()
    both.eos_token, both.bos_token = "8", "9"
    end, begin = both.eos_token_id, both.bos_token_id
    assert packed(["abc", "d"], 4, both) == ([[begin, 1, 2, 3], [end, begin, 4, end]], [begin])


@given(
    texts=st.lists(st.text("abcdefgh", max_size=9), max_size=12),
    length=st.integers(2, 9),
    cut=st.integers(0, 12),
)
def test_nothing_of_a_text_is_lost_wherever_batches_are_cut(texts: list[str], length: int, cut: int) -> None:
    packer = CausalPacker(tokenizer(), length)
    first, left, before = packer.pack(texts[:cut])
    second, rest, after = packer.pack(texts[cut:], left)
    stream = [*first.flatten().tolist(), *second.flatten().tolist(), *rest.tolist()]
    spoken = "".join(f"{text}." for text in texts if text)
    assert "".join("." if token == 0 else TOKENS[token] for token in stream) == f".{spoken}"
    counts = before + after
    assert (counts.tokens, counts.bytes) == (len(spoken) - counts.documents, len(spoken) - counts.documents)
    assert counts.documents + counts.empty == len(texts) and len(rest) < length


def test_bytes_are_those_of_utf_8() -> None:
    trained = wrap_bpe(train_bpe(TEXTS, 320))
    _, _, counts = CausalPacker(trained, 8).pack(["é", "\U0001f600", " "])
    assert (counts.documents, counts.empty, counts.bytes) == (2, 1, 6)


@given(tokens=st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=4))
def test_positions_begin_anew_with_each_document(tokens: list[list[int]]) -> None:
    found = positions_in_documents(torch.tensor(tokens), first=0).tolist()
    for row, positions in zip(tokens, found, strict=True):
        place = -1
        for token, position in zip(row, positions, strict=True):
            place = 0 if token == 0 else place + 1
            assert position == place


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d").mkdir()
    train = [f"the cat number {number} sat on mat {number % 7}" for number in range(60)]
    for split, texts in (("train", train), ("test", ["a dog lay under the table and looked at the cat"] * 2)):
        parquet.write_table(pa.table({"text": texts}), tmp_path / "d" / f"{split}.parquet")
    return tmp_path / "d"


def settings(folder: Path, **more: Any) -> ClmData:
    return ClmData(name=str(folder), **{"length": 12, "vocab_size": 330, **more})


def test_a_corpus_from_files_to_sequences_and_again_from_the_cache(folder: Path) -> None:
    first, again = load_corpus(settings(folder)), load_corpus(settings(folder))
    rows = first.train.rows(torch.arange(len(first.train)))
    assert torch.equal(rows, again.train.rows(torch.arange(len(again.train))))
    spoken = str(first.tokenizer.decode(rows.flatten().tolist())).split(END)
    assert spoken[1] == "the cat number 0 sat on mat 0"
    described = first.describe()
    assert described == again.describe()
    assert (described["held_out"]["documents"], described["held_out"]["bytes"]) == (2, 94)
    assert rows.max() < len(first.tokenizer)


def test_streams_give_sequences_that_follow_from_their_number(folder: Path) -> None:
    data = settings(folder, streaming=True, evaluate_sequences=1)
    numbers = torch.arange(80)
    rows = load_corpus(data, seed=3).train.rows(numbers)
    assert torch.equal(load_corpus(data, seed=3).train.rows(numbers), rows)
    assert not torch.equal(load_corpus(data, seed=4).train.rows(numbers), rows)


def test_text_shorter_than_a_sequence_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"test\.parquet: 2 documents .* do not fill one sequence; give more text, or"):
        load_corpus(settings(folder, length=100))


def test_what_masked_models_read_is_counted_as_ever(folder: Path) -> None:
    from headstart.tasks.text import MlmData

    described = load_corpus(MlmData(name=str(folder), length=12, vocab_size=80)).describe()
    assert described["train"].keys() == {"origin", "sequences", "documents", "empty", "tokens"}


def test_real_wikipedia(research_data: Path) -> None:
    corpus = load_corpus(ClmData(name="wikipedia-en-2015-small", documents=20, vocab_size=1000, length=64))
    text = corpus.held_out.describe()
    assert text["documents"] == 73
    assert 1.5 < text["bytes"] / text["tokens"] < 5.0
    rows = corpus.train.rows(torch.arange(len(corpus.train))).numpy()
    assert np.isin(rows, [corpus.tokenizer.eos_token_id]).sum() in (20, 21)
