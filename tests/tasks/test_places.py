"""Where data sets are looked for; tests of the tasks' loaders show the whole way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.errors import DataError
from headstart.tasks.places import cache_folder, files_key, pick_split, split_name


def test_cache_folder_is_in_the_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "headstart"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("test-00000-of-00003", "test"),
        ("valid", "validation"),
        ("VAL_1", "validation"),
        ("c4-train.00000-of-01024.json", "train"),
        ("train_of_the_test", "train"),
        ("constraints", "constraints"),  # a word that only contains one
        ("part-1", "part"),
        ("0001", "0001"),
    ],
)
def test_split_names(name: str, split: str) -> None:
    assert split_name(name) == split


def test_validation_stands_in_for_test_only() -> None:
    assert pick_split({"train": 1, "validation": 2}, "test", "here")[:2] == ("validation", 2)
    with pytest.raises(DataError, match="here has no split 'validation'; it has train, test"):
        pick_split({"train": 1, "test": 2}, "validation", "here")


def test_key_changes_with_the_files_and_the_choices(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("text")
    keys = [files_key([file], "choice"), files_key([file], "other choice")]
    file.write_text("longer text")
    keys.append(files_key([file], "choice"))
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    keys.append(files_key([file], "choice"))
    assert len(set(keys)) == 4
    assert files_key([file], "choice") == keys[-1]
