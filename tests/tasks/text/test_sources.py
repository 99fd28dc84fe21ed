"""Finding a corpus and reading its documents."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from headstart.errors import DataError
from headstart.tasks.text.config import MlmData
from headstart.tasks.text.sources import Source, find_splits

TEXTS = ["First.", "Second, with\na line break.", None, "", "Fifth."]


def write_parquet(path: Path, texts: Sequence[str | None], **more: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"id": list(range(len(texts))), "text": texts, **more}), path)


def find(place: Path, **settings: Any) -> Mapping[str, Source]:
    return find_splits(MlmData(name=str(place), **settings))


def read(source: Source, size: int = 2, **options: int) -> list[list[str]]:
    return list(source.batches(size, **options))


def test_parquet_gives_its_texts_in_batches(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", TEXTS)
    splits = find(tmp_path)
    assert list(splits) == ["train"]
    source = splits["train"]
    assert read(source) == [["First.", "Second, with\na line break."], ["", ""], ["Fifth."]]
    assert read(source, start=2) == [["Fifth."]]
    assert source.count() == 5
    assert source.origin == str(tmp_path / "train.parquet")


def test_files_of_a_split_are_read_in_order_or_apart(tmp_path: Path) -> None:
    for shard in range(3):
        write_parquet(tmp_path / f"train-0000{shard}-of-00003.parquet", [f"{shard}{letter}" for letter in "abc"])
    write_parquet(tmp_path / "validation.parquet", ["held out"])
    splits = find(tmp_path)
    assert list(splits) == ["train", "validation"]
    assert read(splits["train"], size=9) == [["0a", "0b", "0c", "1a", "1b", "1c", "2a", "2b", "2c"]]
    assert splits["train"].shards == 3
    assert read(splits["train"], shard=1) == [["1a", "1b"], ["1c"]]
    assert read(splits["train"], shard=2, start=1) == [["2c"]]
    assert splits["train"].key != splits["validation"].key


def test_text_files_hold_documents_apart_by_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("One\nin two lines\n\nTwo\n\n\n\nThree\n")
    (tmp_path / "origin.txt").write_text("a tool")
    (tmp_path / "README.txt").write_text("No text to train on.")
    (source,) = find(tmp_path, column="article").values()  # a text file has no columns
    assert [text.strip() for batch in read(source) for text in batch] == ["One\nin two lines", "Two", "Three"]
    assert source.origin == f"{tmp_path / 'train.txt'} (a tool)"


def test_files_that_name_no_split_are_for_training(tmp_path: Path) -> None:
    (tmp_path / "emma.txt").write_text("Emma Woodhouse")
    (tmp_path / "moby.txt").write_text("Call me Ishmael")
    (source,) = find(tmp_path).values()
    assert read(source) == [["Emma Woodhouse", "Call me Ishmael"]]


def test_one_file_is_the_training_split(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("Just this")
    assert {name: read(split) for name, split in find(tmp_path / "test.txt").items()} == {"train": [["Just this"]]}


def test_compressed_json_lines(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"url": "u", "text": text}) + "\n" for text in ("a", "b", "c"))
    (tmp_path / "c4-train.00000-of-00001.json.gz").write_bytes(gzip.compress(lines.encode()))
    assert read(find(tmp_path)["train"]) == [["a", "b"], ["c"]]


def test_a_subset_is_a_folder_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "owner" / "name" / "v1" / "train.parquet", ["in v1"])
    write_parquet(tmp_path / "owner" / "name" / "train.parquet", ["outside"])
    monkeypatch.setenv("HEADSTART_DATA", str(tmp_path))
    assert read(find_splits(MlmData(name="owner/name", subset="v1"))["train"]) == [["in v1"]]
    assert read(find_splits(MlmData(name="owner/name"))["train"]) == [["outside"]]
    assert read(find_splits(MlmData(name="owner/name", subset="v2"))["train"]) == [["outside"]]


def test_key_changes_with_the_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["one"])
    before = find(tmp_path)["train"].key
    assert find(tmp_path)["train"].key == before
    write_parquet(tmp_path / "train.parquet", ["one", "two"])
    assert find(tmp_path)["train"].key != before


@pytest.mark.parametrize(("streaming", "kind"), [(False, datasets.Dataset), (True, datasets.IterableDataset)])
def test_hub_data_set_is_loaded_by_name_and_subset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool, kind: type
) -> None:
    write_parquet(tmp_path / "a.parquet", ["from the Hub"])
    load, asked = datasets.load_dataset, []

    def pretend(path: str, **options: Any) -> Any:
        asked.append((path, options.pop("name")))
        files = {"validation": str(tmp_path / "a.parquet")}
        return load("parquet", data_files=files, cache_dir=str(tmp_path / "hub"), **options)

    monkeypatch.setattr(datasets, "load_dataset", pretend)
    source = find_splits(MlmData(name="allenai/c4", subset="en", streaming=streaming))["validation"]
    assert isinstance(source.dataset, kind)
    assert asked == [("allenai/c4", "en")]
    assert read(source) == [["from the Hub"]]
    assert source.count() == 1
    assert source.origin == "Hugging Face Hub, allenai/c4 (en), validation"


def test_missing_corpus_names_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_DATA", "/nowhere")
    with pytest.raises(DataError, match=r"(?s)no data set 'prose' here.*/nowhere/prose.*tools/small_text\.py"):
        find_splits(MlmData(name="prose"))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a"])
    with pytest.raises(DataError, match=r"train\.parquet: there is no column 'body', there is id, text.*data\.column"):
        read(find(tmp_path, column="body")["train"])
    with pytest.raises(DataError, match=r"data\.column='id' holds int64 and no text"):
        read(find(tmp_path, column="id")["train"])


@pytest.mark.parametrize(
    ("name", "content"),
    [("train.parquet", b"PAR1 and no more"), ("train.json.gz", b"no gzip"), ("train.txt", b"\xff\xfe")],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read.*fetch it again") as caught:
        read(find(tmp_path)["train"])
    assert str(tmp_path) in str(caught.value)


def test_a_connection_that_breaks_is_told(tmp_path: Path) -> None:
    class ConnectError(Exception):
        """As the Hub's client lets it through: of no kind that Python knows."""

    class Stream:
        num_shards = 1

        def with_format(self, _: str) -> Stream:
            return self

        def iter(self, _: int) -> Iterator[Any]:
            yield pa.table({"text": ["First."]})
            raise ConnectError("Name or service not known")

    documents = Source("Hugging Face Hub, c4", "key", cast(Any, Stream()), "text").batches()
    assert next(documents) == ["First."]
    with pytest.raises(DataError, match=r"Hugging Face Hub, c4: cannot be read \(ConnectError: Name or service"):
        next(documents)


def test_places_that_hold_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no corpus; wanted are train\*\.parquet"):
        find(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"model\.bin: no file of a known kind"):
        find(tmp_path / "model.bin")
