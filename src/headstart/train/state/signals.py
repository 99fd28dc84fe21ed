"""SIGTERM and Ctrl-C during a training: requests to leave at the next step, which all its processes obey together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import distributed

from headstart.errors import ONE_REQUEST, Interrupted, Preempted
from headstart.train import ranks

_REQUESTS = (signal.SIGINT, signal.SIGTERM)
_noted = 0  # the signal that a worker got between two trainings


class Requests:
    """While it is entered, SIGTERM and SIGINT (Ctrl-C) are noted instead of ending the process; a second one ends it.

    Batch systems send SIGTERM before they take a machine away, and people press Ctrl-C. Only the main thread can catch
    signals; in another one they do what they did. One of several processes leaves with the others only: who starts them
    (torchrun) decides how long it waits.

    Args:
        wanted: Without it nothing is caught, and `asked` is always 0.

    Example:
        >>> before = signal.signal(signal.SIGTERM, lambda *_: print("passed on"))
        >>> with Requests(True) as requests:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     requests.asked() == signal.SIGTERM
        True
        passed on
        >>> _ = signal.signal(signal.SIGTERM, before)
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._caught = _noted if wanted else 0
        self._when = time.monotonic()
        self._previous: dict[int, Any] = {}
        # On the CPU, so that no step waits for a GPU to know whether it is the last.
        self._group = distributed.new_group(backend="gloo") if wanted and ranks.count() > 1 else None
        self._under_way: tuple[torch.Tensor, Any] | None = None

    def __enter__(self) -> Requests:
        if self._wanted and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _REQUESTS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._group is not None:
            distributed.destroy_process_group(self._group)
        if kind is None and self._caught and self._previous:  # too late for this training, which is finished
            signal.raise_signal(self._caught)

    def asked(self) -> int:
        """The signal that asks to leave now, or 0: the same on all processes, which all have to ask at the same steps.

        Of several processes, what one of them noted before the last question; the answer has had a step's time to go
        around, so that nobody waits for it.
        """
        if self._group is None:
            return self._caught
        before = self._under_way
        number = torch.tensor(self._caught)
        answer = 0 if before is None else _told(*before)
        self._under_way = (
            number,
            distributed.all_reduce(number, op=distributed.ReduceOp.MAX, group=self._group, async_op=True),
        )
        return answer

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self._caught and time.monotonic() - self._when > ONE_REQUEST
        if again and self._group is None and multiprocessing.parent_process() is None:
            os._exit(128 + number)  # at once: not even what is under way at exit is waited for
        if not self._caught:
            self._caught, self._when = number, time.monotonic()


def leaving(number: int, where: str, when: str) -> Preempted:
    """What a run that obeys a signal raises, once its checkpoint is written.

    Example:
        >>> str(leaving(signal.SIGINT, "runs/one", "after step 3"))
        'runs/one: Ctrl-C after step 3'
    """
    kind, name = (Interrupted, "Ctrl-C") if number == signal.SIGINT else (Preempted, "SIGTERM")
    return kind(f"{where}: {name} {when}")


def note_between_trainings() -> None:
    """Have a worker process keep a signal for the training that it does, or does next; the race ends the worker."""

    def note(number: int, frame: FrameType | None) -> None:
        global _noted
        _noted = number

    for number in _REQUESTS:
        signal.signal(number, note)


def _told(number: torch.Tensor, work: Any) -> int:
    work.wait()
    return int(number)
