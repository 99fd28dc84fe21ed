"""Running other programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headstart.errors import DataError
from program import run


def test_a_failed_program_gives_its_last_line(tmp_path: Path) -> None:
    code = "import sys; print('first\\nE: Unable to locate package', file=sys.stderr); sys.exit(100)"
    with pytest.raises(DataError, match="failed: E: Unable to locate package"):
        run([sys.executable, "-c", code], tmp_path)


def test_a_program_runs_in_the_folder(tmp_path: Path) -> None:
    run([sys.executable, "-c", "open('here', 'w')"], tmp_path)
    assert (tmp_path / "here").exists()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-such-program is not installed"):
        run(["no-such-program"], tmp_path)
