"""Checkpoints: whole or not at all, whatever the disk does."""

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
from headstart.train.checkpoint import CHECKPOINT, load_checkpoint, remove_checkpoint, save_checkpoint

WEIGHTS = torch.arange(5.0)
OLD = {"step": 1, "weights": WEIGHTS}
NEW = {"step": 2, "weights": torch.zeros(100_000)}
MESSAGE = "the checkpoint of step 2 could not be written .*; the checkpoint before is kept. Make room on the disk"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, OLD)
    return tmp_path


def check_the_one_before_survives(folder: Path) -> None:
    state = load_checkpoint(folder)
    assert state is not None and state["step"] == 1
    assert torch.equal(state["weights"], WEIGHTS)
    assert os.listdir(folder) == [CHECKPOINT]


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


def test_the_next_one_takes_its_place(folder: Path) -> None:
    save_checkpoint(folder, NEW)
    state = load_checkpoint(folder)
    assert state is not None and state["step"] == 2
    remove_checkpoint(folder)
    assert load_checkpoint(folder) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_one_says_how_to_go_on(share: float, folder: Path) -> None:
    path = folder / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(HeadstartError, match=f"{CHECKPOINT}: cannot be read .*; delete it to begin this run anew"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"no checkpoint at all", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(60)])
def test_something_else_in_its_place_says_how_to_go_on(content: bytes, folder: Path) -> None:
    (folder / CHECKPOINT).write_bytes(content)
    with pytest.raises(HeadstartError, match="delete it to begin this run anew"):
        load_checkpoint(folder)
