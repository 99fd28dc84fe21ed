"""Freed memory stays with the process: the next step touches no new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Page faults of twenty rounds that ask for, touch and free two times 40 MB: by default pieces above 32 MB come from the
# system each time.
ROUNDS = """
import resource, sys
import torch
from headstart.train.freed_memory import keep_freed_memory

def rounds(count):
    for _ in range(count):
        kept = [torch.ones(10 * 2**20) for _ in range(2)]
        del kept

kept = keep_freed_memory() if sys.argv[1] == "kept" else None
rounds(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
LARGE = "import ctypes; print(ctypes.CDLL(None).mallopt(-3, 1 << 30))"  # whether the library lets these be kept

gnu = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not the GNU one")


def faults(how: str, **environment: str) -> tuple[str, int]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ROUNDS, how]
    done = subprocess.run(command, env={**own, **environment}, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


@gnu
def test_no_new_pages_are_touched() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    if done.stdout.strip() == "0":
        pytest.skip("an older C library keeps smaller pieces only")
    _, usual = faults("usual")
    kept, few = faults("kept")
    assert kept == "True"
    assert usual > 20 * 2 * 20  # pages of 2 MB at the largest
    assert few < usual / 5


@gnu
def test_settings_of_the_users_own_stay_in_force() -> None:
    kept, _ = faults("kept", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.train import freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert freed_memory.keep_freed_memory() is False
