"""Importing headstart, and asking its command for help, loads nothing heavy."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time

import pytest

import headstart

HEAVY = ("torch", "numpy", "pydantic", "scipy", "matplotlib", "accelerate", "datasets")
TELL = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"


def loaded_by(statement: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{TELL}"], capture_output=True, text=True, check=True)
    return done.stderr.strip()


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("import headstart; headstart.__version__; dir(headstart)") == "[]"


@pytest.mark.parametrize("command", ["", "race", "train", "report", "teachers"])
def test_help_loads_nothing_heavy(command: str) -> None:
    arguments = ["headstart", *command.split(), "--help"]
    run = f"import sys; sys.argv = {arguments!r}\nfrom headstart.cli import main\ntry: main()\nexcept SystemExit: pass"
    # Typer itself looks for pydantic when it reads a command's parameters.
    assert loaded_by(run) in (["[]", "['pydantic']"] if command else ["[]"])


@pytest.mark.skipif("HEADSTART_TEST_SPEED" not in os.environ, reason="needs a quiet machine: HEADSTART_TEST_SPEED=1")
def test_help_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "headstart", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    assert statistics.median(times) < 0.5


@pytest.mark.parametrize("name", headstart.__all__)
def test_every_public_name_is_loaded_when_it_is_used(name: str) -> None:
    assert callable(getattr(headstart, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'headstart' has no attribute 'Destiller'"):
        _ = headstart.Destiller


def test_the_package_race_can_be_called() -> None:
    assert callable(importlib.import_module("headstart.race"))
