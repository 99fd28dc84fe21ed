"""Processes that train side by side."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from headstart.errors import HeadstartError
from headstart.experiment.worker_processes import Workers, threads_of_a_worker


def test_a_process_that_dies_is_told_of_and_replaced() -> None:
    with Workers(1) as workers:
        assert workers.call(torch.get_num_threads) == (os.cpu_count() or 1)
        assert workers.call(os.getpid) != os.getpid()
        with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
            workers.call(math.sqrt, -1)
        with pytest.raises(HeadstartError, match=r"died without a word, .* try fewer --workers"):
            workers.call(os._exit, 1)
        assert workers.call(math.sqrt, 4) == 2


def test_step_times_are_taken_with_the_threads_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    before = torch.get_num_threads()
    for count, threads in {1: before, 2: 3, 4: 1, 8: 1}.items():
        with threads_of_a_worker(count):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == before


def test_a_parent_that_is_killed_takes_its_processes_with_it() -> None:
    code = """
import os, time
from headstart.experiment.worker_processes import Workers, threads_of_a_worker
if __name__ == "__main__":
    with Workers(1) as workers:
        print(workers.call(os.getpid), flush=True)
        workers.call(time.sleep, 60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(6000):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if _state(child) == "Z":  # dead; nobody asked for its exit code yet
            return
        time.sleep(0.05)
    pytest.fail(f"process {child} still runs 5 minutes after its parent was killed")


def _state(process: int) -> str:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""
