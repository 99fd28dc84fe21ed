"""Targets computed before they are asked for: on CUDA beside the student's forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from headstart.distill.projection import Projection
from headstart.distill.targets.source import Target
from headstart.distill.targets.sparse import Sparse
from headstart.errors import HeadstartError

Given: TypeAlias = list[list[Target]]  # of each teacher those of each head


class _Started(NamedTuple):
    inputs: Any  # held, so that their memory is not used again while they are read
    targets: Given
    stream: torch.cuda.Stream | None


class Early:
    """The targets of one batch, computed ahead of the call that wants them.

    On CUDA they are computed on a stream of their own, which waits for what was queued before; whoever takes them lets
    the present stream wait for it. Elsewhere they are computed at once. Either way they are the same numbers.
    """

    def __init__(self) -> None:
        self._started: _Started | None = None
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def start(self, inputs: Any, device: torch.device, compute: Callable[[], Given]) -> None:
        """Compute the targets of these inputs; what was started before and not taken is dropped.

        Args:
            inputs: What they will be asked for with.
            device: Where.
            compute: Gives them.
        """
        self.drop()
        with self._beside(device) as stream:
            self._started = _Started(inputs, compute(), stream)

    def take(self, inputs: Any) -> Given | None:
        """The targets, once, for use on the present stream; None where nothing was started.

        Raises:
            HeadstartError: They were started for other inputs.
        """
        started = self._join()
        if started is None:
            return None
        if started.inputs is not inputs:
            raise HeadstartError(
                "prefetch was called with other inputs than this call; give both the very same object, or leave "
                "prefetch out"
            )
        return started.targets

    def drop(self) -> None:
        """Forget what was started."""
        self._join()

    @contextmanager
    def _beside(self, device: torch.device) -> Iterator[torch.cuda.Stream | None]:
        if device.type != "cuda":
            yield None
            return
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream(device))  # for inputs, and the teachers' weights
        with torch.cuda.stream(stream):
            yield stream

    def _join(self) -> _Started | None:
        started, self._started = self._started, None
        if started is not None and started.stream is not None:
            present = torch.cuda.current_stream(started.stream.device)
            present.wait_stream(started.stream)
            for tensor in _tensors(started.targets):
                tensor.record_stream(present)  # their memory is the other stream's, and must not go back to it too soon
        return started


def _tensors(targets: Given) -> Iterator[Tensor]:
    for target in chain.from_iterable(targets):
        parts = (target,) if isinstance(target, Tensor) else _parts(target)
        yield from (part for part in parts if isinstance(part, Tensor))


def _parts(target: Projection | Sparse) -> Iterable[Any]:
    return target if isinstance(target, Projection) else vars(target).values()
