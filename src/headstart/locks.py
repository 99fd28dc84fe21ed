"""Folders in which one process works at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone(path: Path, *, patience: float) -> Iterator[bool]:
    """Hold a lock, which the system lifts when the process ends, however it does.

    Args:
        path: The lock's file; it stays there, empty. Held already by this thread, it is held once more.
        patience: Seconds to wait for it.

    Yields:
        Whether nobody else holds it. On a file system without locks nobody is kept out.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, alone(Path(folder) / ".lock", patience=0) as free:
        ...     free
        True
    """
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):
        pass  # a file system that has no locks
    try:
        yield True
    finally:
        lock.release()
