"""Checkpoints: whole or not at all, whatever the disk does, and one more should the newest be damaged."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from headstart.errors import HeadstartError
from headstart.train.state.checkpoint import (
    checkpoint_path,
    checkpoints,
    load_checkpoint,
    load_newest,
    remove_checkpoints,
    save_checkpoint,
)

WEIGHTS = torch.arange(5.0)
OLD = {"step": 1, "weights": WEIGHTS}
NEW = {"step": 2, "weights": torch.zeros(100_000)}
MESSAGE = "the checkpoint of step 2 could not be written .*; the checkpoint before is kept. Make room on the disk"


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, OLD)
    return tmp_path


def check_the_one_before_survives(folder: Path) -> None:
    assert os.listdir(folder) == ["checkpoint-1.pt"]
    state = load_checkpoint(folder / "checkpoint-1.pt")
    assert state["step"] == 1
    assert torch.equal(state["weights"], WEIGHTS)


@pytest.fixture
def full_after() -> Iterator[Callable[[int], None]]:
    """Let this process write files of so many bytes at most, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda count: resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 100, 5_000, 100_000])
def test_the_one_before_survives_where_the_system_stops_writing(
    room: int, folder: Path, full_after: Callable[[int], None]
) -> None:
    full_after(room)
    with pytest.raises(HeadstartError, match=MESSAGE) as caught:
        save_checkpoint(folder, NEW)
    full_after(resource.RLIM_INFINITY)
    assert os.strerror(errno.EFBIG) in str(caught.value)
    check_the_one_before_survives(folder)


def raise_full(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["torch.save", "os.fsync", "os.replace", "tempfile.mkstemp"])
def test_the_one_before_survives_a_full_disk_at_every_call(
    call: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, raise_full)
    with pytest.raises(HeadstartError, match=MESSAGE) as caught:
        save_checkpoint(folder, NEW)
    assert os.strerror(errno.ENOSPC) in str(caught.value)
    check_the_one_before_survives(folder)


def test_the_first_one_says_that_there_is_none_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", raise_full)
    with pytest.raises(HeadstartError, match="there is none before it"):
        save_checkpoint(tmp_path, NEW)
    assert os.listdir(tmp_path) == []


def test_two_are_kept(folder: Path) -> None:
    save_checkpoint(folder, NEW)
    assert names(folder) == ["checkpoint-2.pt", "checkpoint-1.pt"]
    save_checkpoint(folder, {**NEW, "step": 10})
    assert names(folder) == ["checkpoint-10.pt", "checkpoint-2.pt"]
    remove_checkpoints(folder)
    assert os.listdir(folder) == []


def test_what_a_damaged_one_was_ahead_of_is_not_kept(folder: Path) -> None:
    """A run that has gone back from step 9 to step 2 counts on no checkpoint of step 9."""
    for step in (2, 9):
        save_checkpoint(folder, {**NEW, "step": step})
    save_checkpoint(folder, {**NEW, "step": 4})
    assert names(folder) == ["checkpoint-4.pt", "checkpoint-2.pt"]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 3]


def with_a_changed_bit(content: bytes) -> bytes:
    """In the numbers, where nothing but a check sum tells."""
    place = content.index(WEIGHTS.numpy().tobytes()) + 6
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        with_a_changed_bit,
        lambda _: b"",
        lambda _: b"no checkpoint at all",
        lambda _: b"\x80\x02}q\x00.",
        lambda _: b"PK\x03\x04" + bytes(60),
    ],
    ids=["truncated", "a bit", "empty", "text", "pickle", "zip"],
)
def test_a_damaged_one_gives_way_to_the_one_before_with_a_warning(
    damage: Callable[[bytes], bytes], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(folder, {**OLD, "step": 2})
    damaged = checkpoint_path(folder, 2)
    damaged.write_bytes(damage(damaged.read_bytes()))
    state = load_newest(checkpoints(folder), load_checkpoint)
    assert state is not None and state["step"] == 1
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{damaged}: cannot be read (" in record.message
    assert record.message.endswith("; going on from the checkpoint before it")


def test_none_that_can_be_read_says_how_to_go_on(folder: Path) -> None:
    save_checkpoint(folder, NEW)
    for path in checkpoints(folder):
        path.write_bytes(b"")
    with pytest.raises(HeadstartError, match=r"checkpoint-1.pt: cannot be read .*; delete it to begin this run anew"):
        load_newest(checkpoints(folder), load_checkpoint)


def test_none_at_all_is_the_beginning(tmp_path: Path) -> None:
    assert load_newest(checkpoints(tmp_path), load_checkpoint) is None


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_code_in_one_is_not_run(tmp_path: Path) -> None:
    torch.save({"step": 2, "weights": Malicious(tmp_path / "made")}, tmp_path / "checkpoint-2.pt")
    with pytest.raises(HeadstartError, match="cannot be read"):
        load_checkpoint(tmp_path / "checkpoint-2.pt")
    assert not (tmp_path / "made").exists()
