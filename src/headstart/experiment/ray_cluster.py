"""Runs of a race on the machines of a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch

from headstart.errors import HeadstartError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_OURS = ("HEADSTART_DATA", "HEADSTART_CACHE")  # what a worker has to know as the command does


class Cluster:
    """A Ray cluster that does calls, each with resources of its own.

    Ray starts a call again when the worker that did it is lost: a run then goes on from the checkpoint in its folder.
    All machines have to see the working directory, the folders of race and data under the same paths, and to have
    headstart installed.

    Args:
        address: `ray://HOST:PORT`. Default: the cluster that `RAY_ADDRESS` names or that runs on this machine; where
            there is none, one of this machine is started, and ended afterwards.
        cpus: Processors of each call, and threads of its torch.
        gpus: GPUs of each call; parts of one are possible.
        retries: How often a call is started again whose worker was lost.

    Raises:
        HeadstartError: Ray is not installed; or, when it is entered, no cluster answers.
    """

    def __init__(self, address: str | None = None, *, cpus: float = 1, gpus: float = 0, retries: int = 3) -> None:
        self._ray = _import_ray()
        self._address, self._cpus, self._gpus, self._retries = address, cpus, gpus, retries
        self._own = False
        self._under_way: set[Any] = set()
        self._handler: Any = None

    def __enter__(self) -> Cluster:
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=self._address, logging_level="warning", log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise HeadstartError(
                    f"no Ray cluster answers at {self._address or os.environ.get('RAY_ADDRESS', 'this machine')} "
                    f"({error}); start one with ray start --head, or give the address of one: --on ray://HOST:10001"
                ) from None
            self._own = True
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        self._cancel()
        if self._own:
            self._ray.shutdown()

    @property
    def places(self) -> int:
        """How many calls the cluster has room for at once, as large as it is now.

        Raises:
            HeadstartError: For none.
        """
        machines: list[Mapping[str, float]] = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = {name: count for name, count in (("CPU", self._cpus), ("GPU", self._gpus)) if count}
        room = sum(min((int(has.get(name, 0) // wanted[name]) for name in wanted), default=1) for has in machines)
        if room < 1:
            told = "; ".join(f"{has.get('CPU', 0):g} CPU, {has.get('GPU', 0):g} GPU" for has in machines)
            raise HeadstartError(
                f"no machine of the Ray cluster has the {self._cpus:g} CPU and {self._gpus:g} GPU that a run asks for "
                f"(they have: {told}); give fewer with --cpus and --gpus, or add machines"
            )
        return room

    def call(
        self, function: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Call a function on the cluster and wait for it; function, arguments and result are pickled.

        Raises:
            HeadstartError: The worker was lost more often than it is replaced.
        """
        exceptions = self._ray.exceptions
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": self._retries}
        ours = {name: os.environ[name] for name in _OURS if name in os.environ}
        if not self._gpus:  # Ray leaves all in sight then, and every training would take the first
            ours["CUDA_VISIBLE_DEVICES"] = ""
        task = _Task(function, args, kwargs, Path.cwd(), ours, max(1, int(self._cpus)))
        under_way = self._ray.remote(**options)(_do).remote(task)
        self._under_way.add(under_way)
        try:
            outcome = self._ray.get(under_way)
        except exceptions.TaskCancelledError:
            raise KeyboardInterrupt from None
        except exceptions.RayTaskError as error:
            raise error.cause from error
        except exceptions.RayError as error:
            raise HeadstartError(
                f"the worker that trained it was lost {self._retries + 1} times, most often for want of memory "
                f"({type(error).__name__}); give each run more with --cpus or --gpus, or look at Ray's logs"
            ) from None
        finally:
            self._under_way.discard(under_way)
        if isinstance(outcome, HeadstartError):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C reaches this process only: without this the race would wait for the runs to end by themselves."""
        self._cancel()
        if callable(self._handler):
            self._handler(number, frame)

    def _cancel(self) -> None:
        for under_way in list(self._under_way):
            self._ray.cancel(under_way, force=True)


class _Task(NamedTuple):
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    directory: Path
    environment: dict[str, str]
    threads: int


def _do(task: _Task) -> Any:
    """On a worker: the result, or an error that a user can put right (Ray would bury its message in a traceback)."""
    os.environ.update(task.environment)
    os.chdir(task.directory)
    torch.set_num_threads(task.threads)
    try:
        return task.function(*task.args, **task.kwargs)
    except HeadstartError as error:
        return error


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise HeadstartError("--on ray needs Ray, which is not installed; pip install 'headstart[ray]'") from None
    return ray
