"""A run folder is trained in by one process at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from filelock import FileLock

from headstart.errors import HeadstartError
from headstart.train.run import train
from headstart.train.state import lock
from headstart.train.state.lock import claimed
from tests.tiny import tiny_recipe


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)


def hold(folder: Path, told: Connection) -> None:
    with claimed(folder):
        told.send("held")
        threading.Event().wait()


def test_another_process_is_kept_out_until_the_first_is_gone_even_if_killed(tmp_path: Path) -> None:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, theirs))
    process.start()
    assert mine.recv() == "held"
    with pytest.raises(HeadstartError, match=r"another process is training here; wait for it or stop it"):
        claimed(tmp_path).__enter__()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with claimed(tmp_path):
        pass


def test_a_training_claims_its_folder_and_gives_it_back(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data)
    tmp_path.mkdir(exist_ok=True)
    with FileLock(tmp_path / lock.LOCK), pytest.raises(HeadstartError, match="another process is training here"):
        train(recipe, tmp_path)
    record = train(recipe, tmp_path)
    with FileLock(tmp_path / lock.LOCK):  # finished: nobody needs the folder
        assert train(recipe, tmp_path) == record


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with claimed(tmp_path):
        pass
