"""Files that are written as a whole, or not at all; sizes in words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as a whole or not at all."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file to write that takes its place, flushed to disk, once the block has ended without an error.

    Until then it lies beside its place as `.NAME.*.tmp`, and whatever was there before stays.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(f"{folder}/new") as file:
        ...         _ = file.write(b"all of it")
        ...     os.listdir(folder)
        ['new']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def size_told(count: int) -> str:
    """Bytes in words.

    Example:
        >>> size_told(2_735_188)
        '2.7 MB'
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
