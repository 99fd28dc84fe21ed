"""Several processes that train together, as `torchrun` would start them, only quicker."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from tests.train.forked import CONTEXT

_PATIENCE = 300


def start_together(function: Callable[..., object], *arguments: Any, count: int = 2) -> list[BaseProcess]:
    """Call a function in each of some processes that find each other by environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes: list[BaseProcess] = []
    for rank in range(count):
        # The server's environment is that of the time when it was started.
        environment = {**os.environ, **{key: str(value) for key, value in together.items()}}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(CONTEXT.Process(target=_begin, args=(environment, function, arguments), daemon=True))
        processes[-1].start()
    return processes


def end_codes(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Wait for all; the exit code of each, negative for a signal."""
    for process in processes:
        process.join(_PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def run_together(function: Callable[..., object], *arguments: Any, count: int = 2) -> None:
    """Call a function in each of some processes, which must all come to a good end."""
    assert end_codes(start_together(function, *arguments, count=count)) == [0] * count


def _begin(environment: Mapping[str, str], function: Callable[..., object], arguments: Sequence[Any]) -> None:
    os.environ.update(environment)
    signal.alarm(_PATIENCE)  # whoever waits for a process that is gone does not stay for ever
    torch.set_num_threads(1)
    function(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
