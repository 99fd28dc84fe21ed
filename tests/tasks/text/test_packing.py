"""Packing documents into sequences of one length, and reading them back from the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from headstart.errors import DataError
from headstart.tasks.text.packing import Counts, PackedSequences, Packer, write_packed
from headstart.tasks.text.tokenizer import wrap
from tests.tasks.text.tiny import CLS, SEP, SPECIAL, TOKENS
from tests.tasks.text.words import word_tokenizer, words


def packer(length: int) -> Packer:
    return Packer(word_tokenizer(), length)


def write(path: Path, batches: list[list[str]], length: int = 6, most: int | None = None) -> PackedSequences:
    write_packed(path, batches, packer(length), "here", most=most)
    return PackedSequences(path)


def everything(sequences: PackedSequences) -> list[list[int]]:
    rows: list[list[int]] = sequences.rows(torch.arange(len(sequences))).tolist()
    return rows


def test_documents_follow_each_other_with_separators_between() -> None:
    rows, left_over, counts = packer(6).pack(["a b c", "d e", "f g h i j"])
    # The stream: a b c SEP | d e SEP f | g h i j | SEP
    assert rows.tolist() == [
        [CLS, *words("a b c"), SEP, SEP],
        [CLS, *words("d e"), SEP, *words("f"), SEP],
        [CLS, *words("g h i j"), SEP],
    ]
    assert left_over.tolist() == [SEP]
    assert counts == Counts(documents=3, empty=0, tokens=10)


def test_what_is_left_over_begins_the_next_batch() -> None:
    _, left_over, _ = packer(6).pack(["a b"])
    rows, left_over, _ = packer(6).pack(["c d"], left_over)
    assert rows.tolist() == [[CLS, *words("a b"), SEP, *words("c"), SEP]]
    assert left_over.tolist() == [*words("d"), SEP]


def test_cutting_into_batches_changes_nothing(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("abcdefg"), size)) for size in generator.integers(0, 30, 50)]
    whole = write(tmp_path / "whole", [texts])
    cut = write(tmp_path / "cut", [texts[:7], [], texts[7:8], texts[8:]])
    assert everything(whole) == everything(cut)
    # Against a plain loop over all tokens.
    stream = [token for text in texts if text for token in [*words(text), SEP]]
    expected = [[CLS, *stream[begin : begin + 4], SEP] for begin in range(0, len(stream) - 3, 4)]
    assert everything(whole) == expected
    assert whole.counts == cut.counts
    assert whole.describe() == {
        "sequences": len(expected),
        "documents": sum(bool(text) for text in texts),
        "empty": sum(not text for text in texts),
        "tokens": sum(len(words(text)) for text in texts),
    }


def test_empty_documents_are_left_out_and_counted() -> None:
    rows, _, counts = packer(4).pack(["", "a", " \n\t", "b", ""])
    assert rows.tolist() == [[CLS, *words("a"), SEP, SEP], [CLS, *words("b"), SEP, SEP]]
    assert counts == Counts(documents=2, empty=3, tokens=2)


def test_nothing_but_empty_documents() -> None:
    rows, left_over, counts = packer(4).pack(["", ""])
    assert rows.shape == (0, 4)
    assert left_over.tolist() == []
    assert counts == Counts(documents=0, empty=2, tokens=0)


def test_rows_in_any_order(tmp_path: Path) -> None:
    sequences = write(tmp_path / "packed", [["a b c d e f g h i"]], length=4)
    every = everything(sequences)
    rows = sequences.rows(torch.tensor([3, 0, 3, 1]))
    assert rows.tolist() == [every[3], every[0], every[3], every[1]]
    assert rows.dtype == torch.int64
    assert len(sequences) == 5


def test_the_file_is_an_arrow_data_set(tmp_path: Path) -> None:
    sequences = write(tmp_path / "packed.arrow", [["a b c d e f"]], length=4)
    table = datasets.Dataset.from_file(str(tmp_path / "packed.arrow"))
    assert table["input_ids"][:] == everything(sequences)
    assert table.features["input_ids"].feature.dtype == "uint16"


def test_text_that_the_tokenizer_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"here: its 5 tokens are all unknown to the tokenizer, .*data\.tokenizer"):
        write(tmp_path / "packed", [["à é î", "ö ü"]])
    assert not (tmp_path / "packed").exists()
    assert len(write(tmp_path / "packed", [["à é î ö ü ñ"], ["à é î a b c"]])) == 3


def test_few_tokens_with_large_numbers_take_32_bits_too() -> None:
    gaps = {token: number for number, token in enumerate(TOKENS)} | {"last": 1 << 16}
    tokenizer = Tokenizer(models.WordPiece(gaps, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    rows, _, _ = Packer(wrap(tokenizer), 3).pack(["last"])
    assert rows[0].tolist() == [CLS, 1 << 16, SEP]


def test_large_vocabularies_take_32_bits(tmp_path: Path) -> None:
    big = word_tokenizer(*(f"<{number}>" for number in range(1 << 16)), "last")
    wide = Packer(big, 4)
    assert wide.dtype == np.uint32
    write_packed(tmp_path / "packed", [["last a"]], wide, "here")
    last = big.get_vocab()["last"]
    assert last >= 1 << 16
    assert everything(PackedSequences(tmp_path / "packed")) == [[CLS, last, *words("a"), SEP]]


def test_no_more_than_asked_for_is_read(tmp_path: Path) -> None:
    def batches() -> Iterator[list[str]]:
        yield ["a b"]
        yield ["c d e f g h"]
        raise AssertionError("read on")

    write_packed(tmp_path / "packed", batches(), packer(4), "here", most=3)
    sequences = PackedSequences(tmp_path / "packed")
    assert len(sequences) == 3
    assert sequences.rows(torch.tensor([0])).tolist() == [[CLS, *words("a b"), SEP]]


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    message = r"here: 2 documents with text and 1 empty ones hold 3 tokens.*give more text, or less than data\.length=9"
    with pytest.raises(DataError, match=message):
        write(tmp_path / "packed", [["a", ""], ["b c"]], length=9)
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def batches() -> Iterator[list[str]]:
        yield ["a b c d e f"]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError):
        write_packed(tmp_path / "packed", batches(), packer(4), "here")
    assert os.listdir(tmp_path) == []


def test_key_tells_what_sequences_depend_on() -> None:
    other = Packer(word_tokenizer("more"), 6)
    assert len({packer(6).key, packer(7).key, other.key}) == 3
    assert packer(6).key == packer(6).key
