"""Running other programs, for the tools that fetch data."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from headstart.errors import DataError


def run(command: list[str], folder: Path) -> None:
    """Run a program in `folder`.

    Raises:
        DataError: It is not installed, or failed: ends in its last line.
    """
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]} is not installed")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise DataError(f"{command[0]} {command[-1]} failed: {''.join(last) or f'exit code {result.returncode}'}")
