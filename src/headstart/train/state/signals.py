"""SIGTERM, as batch systems send it before they take a machine away: a request to leave, which all processes obey."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import distributed

from headstart.train import ranks


class Preemption:
    """While it is entered, SIGTERM is noted instead of ending the process.

    Only the main thread can catch signals; in another one, SIGTERM does what it did.

    Args:
        wanted: Without it nothing is caught, and `asked` is always False.

    Example:
        >>> with Preemption(True) as preemption:
        ...     before = preemption.asked()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     before, preemption.asked()
        (False, True)
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._caught = False
        self._previous: Any = None
        # On the CPU, so that no step waits for a GPU to know whether it is the last.
        self._group = distributed.new_group(backend="gloo") if wanted and ranks.count() > 1 else None
        self._under_way: tuple[torch.Tensor, Any] | None = None

    def __enter__(self) -> Preemption:
        if self._wanted and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
        if self._group is not None:
            distributed.destroy_process_group(self._group)

    def asked(self) -> bool:
        """Whether to leave now: the same answer on all processes, which all have to ask at the same steps.

        Of several processes, what one of them noted before the last question; the answer has had a step's time to go
        around, so that nobody waits for it.
        """
        if self._group is None:
            return self._caught
        before = self._under_way
        flag = torch.tensor(int(self._caught))
        answer = before is not None and _told(*before)
        self._under_way = (
            flag,
            distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._group, async_op=True),
        )
        return answer

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._caught = True


def _told(flag: torch.Tensor, work: Any) -> bool:
    work.wait()
    return bool(flag)
