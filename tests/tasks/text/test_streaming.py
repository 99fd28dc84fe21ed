"""A stream: the same sequences whatever was read before, each file read by the process that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from headstart.errors import DataError
from headstart.tasks.text import streaming
from headstart.tasks.text.config import MlmData
from headstart.tasks.text.packing import Packer
from headstart.tasks.text.sources import Source, find_splits
from headstart.tasks.text.streaming import StreamedSequences, StreamOrder
from tests.tasks.text.words import word_tokenizer

LENGTH, BLOCK = 6, 3
PACKER = Packer(word_tokenizer(), LENGTH)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_BLOCK", BLOCK)


def documents(shard: int, count: int) -> list[str]:
    """Texts of which no four letters occur twice, so that a sequence tells where it is from."""
    digits = "0123456789"
    names = [f"{digits[shard]} {digits[number // 10]} {digits[number % 10]}" for number in range(count)]
    return [f"{name} a {name} b {name} c" for name in names]


def write(folder: Path, shards: int, count: int = 10) -> Source:
    for shard in range(shards):
        table = pa.table({"text": documents(shard, count)})
        parquet.write_table(table, folder / f"train-{shard:05}-of-{shards:05}.parquet")
    return find_splits(MlmData(name=str(folder), streaming=True))["train"]


def stream(source: Source, folder: Path, seed: int = 0) -> StreamedSequences:
    return StreamedSequences(source, PACKER, seed=seed, bookmarks=folder / "bookmarks")


def blocks_of(shard: int, count: int) -> Iterator[list[tuple[int, ...]]]:
    """The sequences of each block of a file, packed one block at a time, sorted."""
    texts = documents(shard, count)
    for begin in range(0, count, BLOCK):
        yield sorted(map(tuple, PACKER.pack(texts[begin : begin + BLOCK])[0].tolist()))


def sequences_of(shard: int, count: int) -> list[tuple[int, ...]]:
    return [sequence for block in blocks_of(shard, count) for sequence in block]


def take(sequences: StreamedSequences, begin: int, end: int, step: int = 1) -> list[tuple[int, ...]]:
    return [tuple(row) for row in sequences.rows(torch.arange(begin, end, step)).tolist()]


def test_one_file_is_read_block_by_block_each_shuffled(tmp_path: Path) -> None:
    sequences, position, moved = stream(write(tmp_path, 1), tmp_path), 0, 0
    for block in blocks_of(0, 10):
        read = take(sequences, position, position + len(block))
        assert sorted(read) == block
        moved += read != block
        position += len(block)
    assert moved > 1


def test_each_sequence_comes_once_until_the_stream_begins_anew(tmp_path: Path) -> None:
    sequences = stream(write(tmp_path, 4), tmp_path)
    once = [sequence for shard in range(4) for sequence in sequences_of(shard, 10)]
    first, second = take(sequences, 0, len(once)), take(sequences, len(once), 2 * len(once))
    assert sorted(first) == sorted(second) == sorted(once)
    assert first != second


def test_seeds_shuffle_files_and_sequences(tmp_path: Path) -> None:
    source = write(tmp_path, 4)
    first, again, other = (
        take(StreamedSequences(source, PACKER, seed=seed, bookmarks=tmp_path / f"of {seed}"), 0, 60)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_any_order_of_asking_gives_the_same(tmp_path: Path) -> None:
    source = write(tmp_path, 3)
    expected = take(stream(source, tmp_path / "a"), 0, 120)
    sequences = stream(source, tmp_path / "b")
    for begin in (90, 0, 30, 119, 60):
        assert take(sequences, begin, min(begin + 30, 120)) == expected[begin : begin + 30]
    jumps = [7, 110, 8, 55, 7]
    assert [tuple(row) for row in sequences.rows(torch.tensor(jumps)).tolist()] == [expected[i] for i in jumps]


def test_a_process_reads_its_own_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, read = write(tmp_path, 8), []
    batches = Source.batches

    def watched(self: Source, *arguments: Any, **options: Any) -> Iterator[list[str]]:
        read.append(options["shard"])
        return batches(self, *arguments, **options)

    monkeypatch.setattr(Source, "batches", watched)
    order, alone = StreamOrder(), take(stream(source, tmp_path / "alone"), 0, 64)
    seen, files = [], []
    for process in range(4):
        read.clear()
        sequences = stream(source, tmp_path / f"{process}")
        for step in range(4):
            samples, epoch = order.part(step, 16, process, 4)
            assert epoch == 0
            seen += list(zip(samples.tolist(), map(tuple, sequences.rows(samples).tolist()), strict=True))
        files.append(set(read))
    assert [sequence for _, sequence in sorted(seen)] == alone
    assert sum(map(len, files)) == len(set.union(*files)) == 8


def test_number_of_lanes(tmp_path: Path) -> None:
    for shards, lanes in ((1, 1), (5, 4), (8, 8)):
        folder = tmp_path / str(shards)
        folder.mkdir()
        assert stream(write(folder, shards), folder).describe() == {"files": shards, "lanes": lanes}


def test_resuming_goes_straight_to_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, 2, count=50)
    expected = take(stream(source, tmp_path), 0, 160)
    places = []
    batches = Source.batches

    def watched(self: Source, *arguments: Any, **options: Any) -> Iterator[list[str]]:
        places.append(options["start"])
        return batches(self, *arguments, **options)

    monkeypatch.setattr(Source, "batches", watched)
    assert take(stream(source, tmp_path), 130, 160) == expected[130:]
    assert places
    assert min(places) > 5
    places.clear()
    assert take(stream(source, tmp_path / "elsewhere"), 130, 160) == expected[130:]
    assert min(places) == 0


def test_who_is_behind_forgets_no_bookmarks_of_who_is_ahead(tmp_path: Path) -> None:
    source = write(tmp_path, 1, count=50)
    behind, ahead = stream(source, tmp_path), stream(source, tmp_path)
    expected = take(ahead, 0, 80)
    (file,) = (tmp_path / "bookmarks").iterdir()
    far = json.loads(file.read_text())
    assert take(behind, 0, 10) == expected[:10]
    assert json.loads(file.read_text())[: len(far)] == far  # reading ahead may have added one
    assert take(behind, 10, 80) == expected[10:]


@pytest.mark.parametrize("content", ["", "[]", "null", "[[0, 0], [1]]", "{"])
def test_broken_bookmarks_cost_time_only(tmp_path: Path, content: str) -> None:
    source = write(tmp_path, 1)
    expected = take(stream(source, tmp_path), 10, 20)
    (file,) = (tmp_path / "bookmarks").iterdir()
    assert len(json.loads(file.read_text())) > 1
    file.write_text(content)
    assert take(stream(source, tmp_path), 10, 20) == expected


def test_bookmarks_that_cannot_be_written_are_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write(tmp_path, 1)
    (tmp_path / "file").write_text("")
    expected = take(stream(source, tmp_path), 0, 10)
    assert take(stream(source, tmp_path / "file"), 0, 10) == expected
    assert "a resumed run will read its text from the start" in caplog.text


def test_files_without_enough_text_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["", "a", ""]}), tmp_path / "train.parquet")
    source = find_splits(MlmData(name=str(tmp_path), streaming=True))["train"]
    with pytest.raises(DataError, match=r"1 of its 1 files hold too little text for one sequence of data\.length=6"):
        take(stream(source, tmp_path), 0, 1)


def test_a_stream_has_no_end(tmp_path: Path) -> None:
    assert len(stream(write(tmp_path, 1), tmp_path)) > 10**12
