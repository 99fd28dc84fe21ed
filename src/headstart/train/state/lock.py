"""One training at a time in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headstart.errors import HeadstartError
from headstart.locks import alone
from headstart.train import ranks

LOCK = ".lock"
_PATIENCE = 20.0  # seconds; the workers of a training that was killed hold its lock until they notice


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder, such as the same line of a plan started twice.

    Two in one folder would remove each other's half-written files and mix their metrics. The system lifts the lock when
    the process that holds it ends, however it does. On a file system without locks nobody is kept out.

    Args:
        folder: There already.

    Raises:
        HeadstartError: Another process trains there; raised on all processes.
    """
    with ExitStack() as held:
        if not ranks.from_main(lambda: held.enter_context(alone(folder / LOCK, patience=_PATIENCE))):
            raise HeadstartError(
                f"{folder}: another process is training here; wait for it or stop it, then start the same command "
                f"again: the run goes on from its checkpoint (if there is none, delete {folder / LOCK})"
            )
        yield
