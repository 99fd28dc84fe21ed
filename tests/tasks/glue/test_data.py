"""GLUE's data: where it is looked for, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from headstart.errors import DataError
from headstart.tasks.glue import GLUE_TASKS, GlueOptions, at_hand
from headstart.tasks.glue.data import find_data
from tests.tasks.glue.tiny import table, write_split, write_task

SST2, STSB, MNLI = GLUE_TASKS["sst2"], GLUE_TASKS["stsb"], GLUE_TASKS["mnli"]


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_every_task_is_read_as_it_was_written(name: str, data: Path) -> None:
    task = GLUE_TASKS[name]
    write_task(data, name, train=30)
    written, read = table(name, 30), find_data(task).read("train")
    assert read.texts == tuple(written[column] for column in task.columns)
    assert read.labels.tolist() == written["label"]
    assert read.labels.dtype == (np.float32 if task.classes == 1 else np.int64)
    for split in task.validation:
        assert len(find_data(task).read(split).labels) == 21


def test_mnlis_two_validation_splits_are_not_mixed_up(data: Path) -> None:
    folder = write_task(data, "mnli")
    write_split(folder, "validation_mismatched", table("mnli", 5))
    found = find_data(MNLI)
    assert [len(found.read(split).labels) for split in MNLI.validation] == [21, 5]


def test_a_split_in_parts_is_one_split(data: Path) -> None:
    folder = write_task(data, "sst2")
    (folder / "train.parquet").unlink()
    for part in (0, 1):
        write_split(folder, f"train-0000{part}-of-00002", table("sst2", 3 + part, seed=part))
    assert find_data(SST2).read("train").texts[0] == [
        *table("sst2", 3, seed=0)["sentence"],
        *table("sst2", 4, seed=1)["sentence"],
    ]


def test_data_comes_from_the_hub_where_it_is_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, /, **options: Any) -> datasets.DatasetDict:
        asked.append((name, options))
        splits = {"train": table("sst2", 9), "validation": table("sst2", 4), "test": table("sst2", 2)}
        return datasets.DatasetDict({split: datasets.Dataset.from_dict(rows) for split, rows in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    read = find_data(SST2).read("train")
    assert asked == [("nyu-mll/glue", {"name": "sst2"})]
    assert read.texts == (table("sst2", 9)["sentence"],) and "nyu-mll/glue, sst2, train" in read.origin


def test_missing_data_without_a_network_names_all_places_and_what_to_do(data: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_data(GLUE_TASKS["qqp"])
    for part in (f"there is no {data}/glue/qqp", "in the cache", "nyu-mll/glue", "train.parquet", "leave the task out"):
        assert part in str(caught.value)


def test_a_missing_split_is_named(data: Path) -> None:
    (write_task(data, "qnli") / "train.parquet").unlink()
    with pytest.raises(DataError, match=r"glue/qnli: GLUE task qnli lacks its split 'train'; add train\.parquet"):
        find_data(GLUE_TASKS["qnli"])


def test_tasks_named_are_never_left_out_and_others_say_why(data: Path) -> None:
    write_task(data, "cola")
    found, missing = at_hand(GlueOptions())
    assert [item.task.name for item in found] == ["cola"]
    assert set(missing) == set(GLUE_TASKS) - {"cola"} and "no data set 'glue/rte' here" in missing["rte"]
    with pytest.raises(DataError, match="no data set 'glue/rte' here"):
        at_hand(GlueOptions(tasks=["cola", "rte"]))


def test_no_data_at_all_is_an_error(data: Path) -> None:
    with pytest.raises(DataError, match="GLUE: no task's data is here"):
        at_hand(GlueOptions())


def changed(name: str, row: int, value: Any, column: str = "label") -> dict[str, list[Any]]:
    content = table(name, 6)
    content[column][row] = value
    return content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sst2", {**table("sst2", 6), "label": [-1] * 6}, "every label is -1: a test split without labels"),
        ("sst2", changed("sst2", 4, -1), "row 4 has the label -1, which is not one of 0, 1 (1 such rows of 6)"),
        ("sst2", changed("sst2", 0, None), "row 0 has the label None"),
        ("mnli", changed("mnli", 2, 3), "row 2 has the label 3, which is not one of 0, 1, 2"),
        ("stsb", changed("stsb", 1, 5.5), "row 1 has the label 5.5, which is not a score from 0 to 5"),
        ("stsb", changed("stsb", 1, float("nan")), "row 1 has the label nan"),
        ("sst2", changed("sst2", 3, None, "sentence"), "row 3 has no text in column 'sentence', but None (1 such rows"),
        ("sst2", {"text": ["a"], "label": [0]}, "no column 'sentence'; it has text, label"),
        ("rte", {"sentence1": ["a"], "label": [0]}, "no column 'sentence2'; it has sentence1, label"),
        ("sst2", {"sentence": ["a"]}, "no column 'label'; it has sentence"),
        ("sst2", table("sst2", 0), "no rows"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(
    name: str, content: dict[str, list[Any]], message: str, data: Path
) -> None:
    path = write_split(write_task(data, name), "train", content)
    with pytest.raises(DataError) as caught:
        find_data(GLUE_TASKS[name]).read("train")
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_a_damaged_file_is_named(data: Path) -> None:
    path = write_task(data, "sst2") / "validation.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"validation\.parquet: cannot be read as parquet"):
        find_data(SST2).read("validation")


# Rows of the published tasks (training, validation) and the share of class 1 in training, or the mean score.
PUBLISHED = {
    "cola": (8551, 1043, 0.704),
    "sst2": (67349, 872, 0.558),
    "mrpc": (3668, 408, 0.674),
    "stsb": (5749, 1500, 2.70),
    "rte": (2490, 277, 0.498),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_real_data_has_its_published_size(name: str, research_data: Path) -> None:
    found = find_data(GLUE_TASKS[name])
    train, validation = found.read("train"), found.read("validation")
    assert (len(train.labels), len(validation.labels)) == PUBLISHED[name][:2]
    assert train.labels.mean() == pytest.approx(PUBLISHED[name][2], abs=0.005)
