"""Freed memory stays with the process: the next step touches no new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Page faults of twenty rounds that ask for, touch and free 3 x 8 MB, after some that let the library learn.
ROUNDS = """
import resource, sys
import torch
from headstart.train.freed_memory import keep_freed_memory

def rounds(count):
    for _ in range(count):
        kept = [torch.ones(2**21 + number * 2**12) for number in range(3)]
        del kept

kept = keep_freed_memory() if sys.argv[1] == "kept" else None
rounds(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

gnu = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not the GNU one")


def faults(how: str, **environment: str) -> tuple[str, int]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ROUNDS, how]
    done = subprocess.run(command, env={**own, **environment}, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


@gnu
def test_no_new_pages_are_touched() -> None:
    """By default at least some hundred pages a round, of 6144 in all."""
    _, usual = faults("usual")
    kept, few = faults("kept")
    assert kept == "True"
    assert few < 200 < usual / 10


@gnu
def test_settings_of_the_users_own_stay_in_force() -> None:
    kept, _ = faults("kept", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.train import freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert freed_memory.keep_freed_memory() is False
