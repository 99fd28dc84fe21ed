"""Runs of a race side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, TypeVar

import torch

from headstart.errors import HeadstartError
from headstart.train.state.signals import note_between_trainings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Workers:
    """Processes that share the machine's cores between them.

    Two processes with one thread each get more done on two cores than one with two threads, because small models leave
    threads waiting for each other.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads = _share(count)
        self._pool = self._new_pool()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(
        self, function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Call a function in the next free process and wait for it; function, arguments and result are pickled.

        Raises:
            HeadstartError: The process died.
        """
        pool = self._pool
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenExecutor:
            if pool is self._pool:
                self._pool = self._new_pool()
            raise HeadstartError(
                "the process that trained it died without a word, most often for want of memory; try fewer --workers"
            ) from None

    def stop(self) -> None:
        """Have the trainings that are under way write a checkpoint and leave; their calls raise what `train` does."""
        for worker in multiprocessing.active_children():
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)

    def _new_pool(self) -> ProcessPoolExecutor:
        # Not forked: a fork of a process that has used torch's threads hangs.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._count, mp_context=context, initializer=_begin, initargs=(self._threads,))


@contextmanager
def threads_of_a_worker(count: int) -> Iterator[None]:
    """Compute here with as many threads as one of `count` workers does; with one worker, with as many as ever."""
    before = torch.get_num_threads()
    if count > 1:
        torch.set_num_threads(_share(count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _share(count: int) -> int:
    return max(1, (os.cpu_count() or 1) // count)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    note_between_trainings()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A race that is killed takes its runs with it: two trainings in one run folder would spoil each other."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
