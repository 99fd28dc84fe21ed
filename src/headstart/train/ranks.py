"""The processes of a run: how they find each other, and what they tell each other. A run of one needs none of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import distributed

from headstart.distill.later import from_first
from headstart.errors import RecipeError
from headstart.extras import recipes_extra

with recipes_extra():
    from accelerate import Accelerator, PartialState
    from accelerate.utils import GradientAccumulationPlugin

T = TypeVar("T")

_LONG = timedelta(days=7)

_ENGINES = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")


def connect(**tracking: Any) -> Accelerator:
    """Join the processes that `torchrun` or `accelerate launch` started; each call gives the same ones.

    Args:
        tracking: What `Accelerator` takes about trackers.

    Raises:
        RecipeError: Accelerate's configuration asks for an engine that a recipe does not train on.
    """
    for engine in _ENGINES:
        if os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() == "true":
            raise RecipeError(
                f"Accelerate's configuration asks for {engine}; a recipe shards its student with train.sharding=fsdp. "
                "Launch it with torchrun, or with accelerate launch --multi_gpu"
            )
    # Unless it is told, Accelerate lets processes that have no accelerator train each on its own.
    processor = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()
    # Told all that it would else take from its own configuration: the recipe decides how a batch is cut, and a compiled
    # student would give its weights other names. Not told of the precision: it would turn all logits into float32, a
    # copy that no loss here needs.
    first = not distributed.is_initialized()
    accelerator = Accelerator(
        mixed_precision="no",
        cpu=processor,
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        **tracking,
    )
    if first and _several():
        _patient_group.cache_clear()
        _patient_group()  # made while all are here: making one waits no longer than other collectives
        wait_for_all()  # else one that refuses what follows leaves before another has found it
    return accelerator


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def count() -> int:
    """The number of processes."""
    return distributed.get_world_size() if _several() else 1


def total(values: Iterable[float]) -> list[float]:
    """The sum over processes of each of some numbers.

    Example:
        >>> total([1.0, 2.0])
        [1.0, 2.0]
    """
    return _reduced(list(values), distributed.ReduceOp.SUM)


def mean(values: Iterable[float]) -> list[float]:
    """The mean over processes of each of some numbers."""
    return [number / count() for number in total(values)]


def largest(value: float) -> float:
    """The largest over processes of a number."""
    return _reduced([value], distributed.ReduceOp.MAX)[0]


def everywhere(here: bool) -> bool:
    """Whether something is so on all processes."""
    return not largest(not here)


def from_main(make: Callable[[], T]) -> T:
    """What a function gives on the process that writes, everywhere."""
    return from_first(make() if is_main() else None)  # type: ignore[return-value]  # the main process has made it


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    if _several():
        distributed.barrier()


def wait_for_slow_ones() -> None:
    """Go on when all processes have come here, be it hours later: after work that may take one machine far longer.

    Caches that lie on each machine fill at different speeds. An ordinary collective would give up after some minutes,
    and take the training with it. A process that dies is noticed at once all the same.
    """
    if _several():
        distributed.barrier(_patient_group())


@cache
def _patient_group() -> distributed.ProcessGroup:
    group: distributed.ProcessGroup = distributed.new_group(backend="gloo", timeout=_LONG)
    return group


def disconnect() -> None:
    """Take leave of the others, at the end of the program."""
    PartialState().destroy_process_group()


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _reduced(numbers: list[float], how: distributed.ReduceOp.RedOpType) -> list[float]:
    if not _several():
        return numbers
    gathered = torch.tensor(numbers, dtype=torch.float64, device=PartialState().device)
    distributed.all_reduce(gathered, op=how)
    result: list[float] = gathered.tolist()
    return result
