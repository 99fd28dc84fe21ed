"""Writing: whole files or none, going on after a kill or a full disk, nothing mixed up."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headstart.cache import Keep, write_cache
from headstart.cache.container import Layout, pack_block, read_preamble
from headstart.cache.reader import CacheFile
from headstart.cache.writer import CacheWriter
from headstart.distill.targets.source import Keys
from headstart.errors import HeadstartError
from tests.cache.toy import DATA, KEEP, SIZE, USE, Toy, toy_batches, toy_teacher, write_toy


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """What an undisturbed writer leaves."""
    return write_toy(tmp_path / "whole").read_bytes()


def unfinished(folder: Path, content: bytes) -> Path:
    """Put down what a writer that was killed left."""
    folder.mkdir(exist_ok=True)
    (folder / "old.targets.part").write_bytes(content)
    return folder


def after_blocks(whole: bytes, blocks: int) -> bytes:
    """What has been written when so many blocks are there."""
    header = read_preamble(np.frombuffer(whole, np.uint8))
    assert header is not None
    return whole[: len(header.preamble) + blocks * Layout.of(header).block_bytes(SIZE)]


def test_goes_on_wherever_it_was_killed(whole: bytes, tmp_path: Path) -> None:
    for length in {*range(0, len(whole), 97), len(whole) - 1, len(whole)}:
        folder = unfinished(tmp_path / "killed", whole[:length])
        path = write_toy(folder)
        assert path.read_bytes() == whole, f"killed after {length} bytes"
        assert [file.name for file in folder.iterdir()] == ["old.targets"]
        path.unlink()


def test_what_is_there_is_not_made_again(whole: bytes, tmp_path: Path) -> None:
    asked = []

    def prepare(inputs: Tensor) -> Tensor:
        asked.append(1)
        return inputs

    teacher = toy_teacher(prepare=prepare)
    write_toy(unfinished(tmp_path / "killed", after_blocks(whole, 2)), teacher=teacher)
    resumed = len(asked)
    asked.clear()
    write_toy(tmp_path / "killed", teacher=teacher)
    looks = len(asked)  # at the first batch, to know what it gives; and for the fingerprint
    assert looks == 2 and resumed == looks + 4


def test_damage_before_the_kill_is_made_good(whole: bytes, tmp_path: Path) -> None:
    damaged = bytearray(whole[: len(whole) - 60])
    damaged[len(whole) // 2] ^= 1
    assert write_toy(unfinished(tmp_path / "killed", bytes(damaged))).read_bytes() == whole


KILLED = """
import os, signal
from pathlib import Path
from headstart.cache import build, write_cache
from tests.cache.toy import DATA, KEEP, USE, ticking_clock, toy_batches, toy_teacher
build.perf_counter = ticking_clock()
class Killer:
    def forecast(self, forecast): ...
    def cached(self, done, total):
        if done == 3: os.kill(os.getpid(), signal.SIGKILL)
write_cache(Path({folder!r}), [toy_teacher()], toy_batches(), data=DATA, use=USE, keep=KEEP[0], progress=Killer())
"""


def test_survives_sigkill(whole: bytes, tmp_path: Path) -> None:
    program = KILLED.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.glob("old*")] == ["old.targets.part"]
    assert write_toy(tmp_path).read_bytes() == whole


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_loses_nothing(whole: bytes, tmp_path: Path) -> None:
    size = len(after_blocks(whole, 3)) + 20
    message = r"old.targets.part: cannot be written \(File too large\); the 3 batches before stay. Make room, then"
    with room(size), pytest.raises(HeadstartError, match=message):
        write_toy(tmp_path)
    part = (tmp_path / "old.targets.part").read_bytes()
    assert part == after_blocks(whole, 3)
    assert write_toy(tmp_path).read_bytes() == whole


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HeadstartError, match="cannot be written"):
        write_toy(tmp_path / "file" / "cache")


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    short = write_toy(tmp_path / "a", batches=toy_batches(steps=3)).read_bytes()
    long = write_toy(tmp_path / "b", batches=toy_batches(steps=6)).read_bytes()
    assert write_toy(tmp_path / "a", batches=toy_batches(steps=6)).read_bytes() == long != short
    assert write_toy(tmp_path / "a", batches=toy_batches(steps=2)).read_bytes() == long  # serves shorter ones too


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"teacher": toy_teacher(seed=1)}, "teacher.weights: "),
        ({"data": {"name": "toy", "seed": 3}}, "data.seed: 0 in the cache, 3 now"),
        ({"keep": KEEP[1]}, "rows: kind='full' .* there, kind='top-k' .* now"),
        ({"keep": Keep("sampled", 5)}, "rows: "),
        ({"keep": Keep("sampled", 6)}, "rows: "),
        ({"batches": toy_batches(parts=2)}, "parts: 1 there, 2 now"),
        ({"batches": toy_batches(Toy(rows=2))}, "rows_per_sample: 1 there, 2 now"),
    ],
)
def test_targets_of_something_else_are_not_touched(
    other: dict[str, Any], message: str, finished: bool, whole: bytes, tmp_path: Path
) -> None:
    path = write_toy(tmp_path)
    if not finished:
        path = path.rename(tmp_path / "old.targets.part")
    with pytest.raises(HeadstartError, match=rf"(?s){path.name}: holds targets of something else; .*{message}"):
        write_toy(tmp_path, **other)
    assert path.read_bytes() == whole


def test_neither_are_those_of_other_steps(tmp_path: Path) -> None:
    path = write_toy(tmp_path)
    every = toy_batches()
    with pytest.raises(HeadstartError, match=r"holds the targets of other steps \(another window or every\)"):
        write_toy(tmp_path, batches=type(every)(every.task, range(0, 12, 2), every.size))
    path.rename(tmp_path / "old.targets.part")
    with pytest.raises(HeadstartError, match="of other steps"):
        write_toy(tmp_path, batches=type(every)(every.task, range(1, 7), every.size))


def test_a_foreign_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old.targets.part").write_text("my own notes, which are longer than a header would be")
    with pytest.raises(HeadstartError, match=r"old.targets.part: it is no cache of targets"):
        write_toy(tmp_path)


def test_numbers_of_samples_that_do_not_fit_are_refused() -> None:
    rows = torch.zeros(1, 4, dtype=torch.uint8).numpy()
    for sample in (2**32, -1):
        with pytest.raises(HeadstartError, match="numbers of samples go up to 4294967295"):
            pack_block(0, 0, 0, Keys(torch.tensor([sample]), 0), rows)


def test_another_process_that_writes_too_is_noticed(tmp_path: Path) -> None:
    class Intruder:
        def forecast(self, forecast: object) -> None: ...

        def cached(self, done: int, total: int) -> None:
            if done == 2:
                with open(tmp_path / "old.targets.part", "ab") as file:
                    file.write(b"x")

    with pytest.raises(HeadstartError, match="another process writes to it too; wait for that one, or stop it"):
        write_cache(tmp_path, [toy_teacher()], toy_batches(), data=DATA, use=USE, progress=Intruder())


def test_what_another_writer_has_finished_stays_as_it_is(whole: bytes, tmp_path: Path) -> None:
    """Two were started, and one of them is done before the other has its first block."""
    header = read_preamble(np.frombuffer(whole, np.uint8))
    assert header is not None
    with CacheWriter(tmp_path / "old.targets", header, toy_batches().plan) as late:
        path = write_toy(tmp_path)
        with pytest.raises(HeadstartError, match="another process writes to it too"):
            late.append(Keys(torch.arange(SIZE), 0), np.zeros((SIZE, header.rows.row_bytes), np.uint8))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("keep", KEEP, ids=lambda keep: keep.kind)
def test_the_file_is_sound(keep: Keep, tmp_path: Path) -> None:
    CacheFile(write_toy(tmp_path, keep=keep)).check()
