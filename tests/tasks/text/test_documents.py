"""Which documents are for training, which for judging, which train a tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from headstart.errors import DataError
from headstart.tasks.text.config import MlmData
from headstart.tasks.text.documents import Documents, choose_documents
from headstart.tasks.text.sources import find_splits

ALL = [f"document {number}" for number in range(600)]  # more than two batches


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parquet.write_table(pa.table({"text": ALL}), tmp_path / "train.parquet")
    return tmp_path


def add(folder: Path, split: str) -> None:
    parquet.write_table(pa.table({"text": [f"of {split}"]}), folder / f"{split}.parquet")


def choose(folder: Path, **settings: Any) -> tuple[Documents, Documents]:
    data = MlmData(name=str(folder), **settings)
    return choose_documents(data, find_splits(data))


def texts(documents: Documents) -> list[str]:
    return [text for batch in documents.batches("reading") for text in batch]


def test_all_of_the_training_split_and_the_test_split(folder: Path) -> None:
    add(folder, "test")
    train, held_out = choose(folder)
    assert texts(train) == ALL
    assert texts(held_out) == ["of test"]


def test_validation_is_judged_on_where_asked_for_or_where_there_is_no_test(folder: Path) -> None:
    add(folder, "validation")
    _, instead = choose(folder)
    assert texts(instead) == ["of validation"]
    assert instead.origin.endswith("(the validation split: there is no test split)")
    add(folder, "test")
    assert texts(choose(folder)[1]) == ["of test"]
    assert texts(choose(folder, evaluate="validation")[1]) == ["of validation"]


def test_held_out_documents_are_nobodys_to_train_on(folder: Path) -> None:
    train, held_out = choose(folder, holdout=100)
    kept, aside = texts(train), texts(held_out)
    assert (len(kept), len(aside)) == (500, 100)
    assert sorted(kept + aside) == sorted(ALL)
    assert kept == sorted(kept, key=ALL.index)
    assert aside not in (ALL[:100], ALL[-100:])
    assert texts(choose(folder, holdout=100)[1]) == aside
    assert train.key != held_out.key
    assert held_out.origin.endswith("train.parquet (100 documents held out of it)")


def test_documents_to_tune_by_are_neither_trained_on_nor_judged_on(folder: Path) -> None:
    train, judged = choose(folder, holdout=100, tuning=60)
    _, tuned_by = choose(folder, holdout=100, tuning=60, evaluate="tuning")
    parts = [texts(documents) for documents in (train, judged, tuned_by)]
    assert [len(part) for part in parts] == [440, 100, 60]
    assert sorted(text for part in parts for text in part) == sorted(ALL)
    assert parts[1] == texts(choose(folder, holdout=100)[1])  # what a race is judged by stays the same
    assert len({documents.key for documents in (train, judged, tuned_by, *choose(folder, holdout=100))}) == 5
    assert tuned_by.origin.endswith("(60 documents held out of it to tune by)")
    add(folder, "validation")
    assert texts(choose(folder, tuning=60)[1]) == ["of validation"]
    assert len(texts(choose(folder, tuning=60, evaluate="tuning")[1])) == 60


def test_keys_of_the_cache_are_what_they_were_before_documents_were_set_aside_to_tune_by(folder: Path) -> None:
    train, judged = choose(folder, documents=500, holdout=3)
    for documents, held_out in ((train, False), (judged, True)):
        choices = (documents.source.key, 500, 3, held_out)
        assert documents.key == hashlib.sha256(repr(choices).encode()).hexdigest()[:24]


def test_settings_that_leave_no_documents_to_tune_by(folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.evaluate=tuning needs data\.tuning above 0"):
        choose(folder, evaluate="tuning", holdout=3)
    train, _ = choose(folder, documents=10, holdout=4, tuning=6)
    with pytest.raises(DataError, match=r"10 documents, and data\.holdout=4 and data\.tuning=6 leave none"):
        texts(train)
    with pytest.raises(DataError, match=r"data\.tuning count documents, which data\.streaming does not"):
        choose(folder, streaming=True, tuning=3)


def test_the_first_documents_only(folder: Path) -> None:
    train, held_out = choose(folder, documents=300, holdout=50)
    assert sorted(texts(train) + texts(held_out)) == sorted(ALL[:300])
    assert train.key != choose(folder, documents=301, holdout=50)[0].key
    assert len(texts(choose(folder, documents=1000, holdout=1)[0])) == 599


def test_no_split_to_judge_on(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no test split to judge on, only train; set data\.holdout"):
        choose(folder)


def test_holdout_that_leaves_nothing(folder: Path) -> None:
    train, _ = choose(folder, documents=10, holdout=10)
    with pytest.raises(DataError, match=r"10 documents, and data\.holdout=10 leaves none"):
        texts(train)


def test_a_sample_is_drawn_from_the_whole_corpus(folder: Path) -> None:
    train, _ = choose(folder, holdout=100)
    sample = train.sample(1000)
    assert 1000 <= sum(map(len, sample)) < 1000 + max(map(len, ALL))
    assert set(sample) <= set(texts(train))
    assert sample == sorted(sample, key=ALL.index)
    # Of about 80 documents drawn from 500, no batch of 256 is left out.
    assert {ALL.index(text) // 256 for text in sample} == {0, 1, 2}
    assert train.sample(1000) == sample
    assert train.sample(10**6) == texts(train)


def test_a_sample_of_a_stream_is_its_beginning(folder: Path) -> None:
    add(folder, "validation")
    train, _ = choose(folder, streaming=True)
    assert train.sample(25) == ALL[:3]
    assert texts(train) == ALL


def test_documents_of_a_stream_are_not_counted(folder: Path) -> None:
    with pytest.raises(DataError, match=r"which data\.streaming does not"):
        choose(folder, streaming=True, documents=3)


def test_the_first_documents_of_a_stream_are_set_aside_in_whole_batches(folder: Path) -> None:
    train, held_out = choose(folder, streaming=True, holdout=256)
    assert texts(held_out) == ALL[:256] and texts(train) == ALL[256:]
    assert train.sample(25) == ALL[256:259]
    assert [text for batch in train.source.batches(256, shard=0) for text in batch] == ALL[256:]
    with pytest.raises(DataError, match=r"data\.holdout=3: of a stream .* 256 at a time; give a multiple of that"):
        choose(folder, streaming=True, holdout=3)
