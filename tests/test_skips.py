"""That a skip which is not on the list fails a run, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import read_allowed

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest
def test_passes(): pass
@pytest.mark.skipif(True, reason="needs a CUDA device")
def test_gpu(): pass
@pytest.mark.xfail(strict=True)
def test_known(): assert False
"""


def run(folder: Path, *flags: str, allowed: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(
        "from tests import skips\npytest_addoption, pytest_configure = skips.add_option, skips.register\n"
    )
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    (folder / "allowed.txt").write_text(allowed)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--allowed-skips", "allowed.txt", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("flags", [(), ("-n", "1")], ids=["one process", "workers"])
def test_only_what_is_listed_may_be_skipped(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    listed = run(tmp_path, *flags, allowed="test_*.py: needs a CUDA *  # has none\n")
    assert listed.returncode == 0, listed.stdout
    other = run(tmp_path, *flags, allowed="# nothing\ntest_it.py: needs polars\n")
    assert other.returncode == 1
    assert "SKIPPED BUT NOT ALLOWED [1] test_it.py: needs a CUDA device" in other.stdout


@pytest.mark.parametrize("flags", [(), ("-n", "1")], ids=["one process", "workers"])
def test_a_file_skipped_as_a_whole_counts(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    (tmp_path / "test_other.py").write_text("def test_passes(): pass\n")
    done = run(tmp_path, *flags, allowed="")
    assert done.returncode == 1, done.stdout
    assert "SKIPPED BUT NOT ALLOWED" in done.stdout and "no_such_package" in done.stdout


def test_list_names_files_that_exist() -> None:
    for line in read_allowed((ROOT / "tests" / "allowed_skips.txt").read_text()):
        path, _, reason = line.partition(": ")
        assert reason and list(ROOT.glob(path)), line
