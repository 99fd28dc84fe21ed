"""Whatever happens to a file, no wrong target is ever read from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.cache import Keep
from headstart.cache.reader import CacheFile
from headstart.errors import TeacherError
from tests.cache.toy import KEEP, keys_of, toy_batches, write_toy

STEPS = 2


def read_all(path: Path) -> None:
    """Read as training does, and what it left out."""
    file = CacheFile(path)
    for step in range(STEPS):
        file.read(keys_of(toy_batches().batch(step, 0)))
    file.check()


@pytest.fixture(params=KEEP, ids=lambda keep: keep.kind)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    keep: Keep = request.param
    return write_toy(tmp_path, keep=keep, batches=toy_batches(steps=STEPS))


def unnoticed(path: Path, contents: list[bytes]) -> list[int]:
    """Which of these contents are read without complaint."""
    found = []
    with pytest.MonkeyPatch.context() as patch:  # thousands of files would take the disk a while
        for number, content in enumerate(contents):
            patch.setattr(
                "headstart.cache.reader.map_file", lambda _, content=content: np.frombuffer(content, np.uint8)
            )
            try:
                read_all(path)
                found.append(number)
            except TeacherError as error:
                assert path.name in str(error)
    return found


def test_the_file_itself_is_fine(path: Path) -> None:
    assert unnoticed(path, [path.read_bytes()]) == [0]


def test_every_changed_byte_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    changed = [whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :] for i in range(len(whole))]
    assert unnoticed(path, changed) == []


def test_every_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    assert unnoticed(path, [whole[:length] for length in range(len(whole))]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole + b"\0",
        lambda whole: whole + whole,
        lambda whole: b"\0" + whole,
        lambda whole: whole[:600] + whole[601:],
        lambda whole: whole[:600] + b"\0" + whole[600:],
        lambda whole: whole[::-1],
        lambda whole: bytes(len(whole)),
    ],
)
def test_bytes_too_many_or_out_of_place_are_noticed(change: Callable[[bytes], bytes], path: Path) -> None:
    assert unnoticed(path, [change(path.read_bytes())]) == []


def test_blocks_that_changed_places_are_noticed(path: Path) -> None:
    whole = path.read_bytes()
    file = CacheFile(path)
    begin = len(file.header.preamble)
    size = (len(whole) - begin - 16 - STEPS * 28) // STEPS
    first, second = whole[begin : begin + size], whole[begin + size : begin + 2 * size]
    assert unnoticed(path, [whole[:begin] + second + first + whole[begin + 2 * size :]]) == []


def test_another_version_is_refused(path: Path) -> None:
    header = CacheFile(path).header
    newer = header.model_copy(update={"version": 3}).preamble
    path.write_bytes(newer + path.read_bytes()[len(header.preamble) :])
    with pytest.raises(TeacherError, match="its form has version 3, and this headstart knows 2; make it again"):
        CacheFile(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.targets"
    path.write_text("my own notes, which are longer than a header would be")
    with pytest.raises(TeacherError, match=r"notes.targets: it is no cache of targets"):
        CacheFile(path)
    path.write_bytes(b"")
    with pytest.raises(TeacherError, match="truncated or damaged"):
        CacheFile(path)
