"""Trains in each framework's loop as one of two processes; test_two_processes.py starts it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler

from tests.adapters.loops import LOOPS, MICRO_BATCH, Rows, Training, Weights

OPTIONS = {"stop": 0.75, "every": 2}
DDP: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "accelerate": ("accelerate", {}),
    "trainer": ("trainer", {}),
    "lightning": ("lightning", DDP),
    "lightning-bf16-mixed": ("lightning", {**DDP, "precision": "bf16-mixed"}),
}


FROM_ONE, FROM_TWO = "from one", "from two"  # folders of a checkpoint that one process has left, or both have
RESUMED = ("accelerate", "trainer", "lightning")  # loops that go on from each other's checkpoints


class Sharded(Training):
    """For Lightning, whose own sampler would shuffle."""

    def batches(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(Rows(), batch_size=MICRO_BATCH, sampler=DistributedSampler(Rows(), 2, rank(), shuffle=False))


def rank() -> int:
    return int(PartialState().process_index)


def main(folder: Path) -> None:
    """Write the weights of each run; no process accumulates, so that a step has as many rows as one process's has."""
    torch.set_num_threads(1)
    for name, (loop, settings) in RUNS.items():
        keep(folder / f"{name}.pt", LOOPS[loop](training(folder, loop), **settings))
    for loop in RESUMED:
        settings = RUNS[loop][1]
        resumed = LOOPS[loop](training(folder / loop / FROM_ONE, loop), resume=True, **settings)
        keep(folder / f"{loop} {FROM_ONE}.pt", resumed)
        LOOPS[loop](training(folder / loop / FROM_TWO, loop), stop=True, **settings)
        distributed.barrier()
    distributed.destroy_process_group()


def training(folder: Path, loop: str) -> Training:
    """With the rows of a process, which does not accumulate."""
    return (Sharded if loop == "lightning" else Training)(folder, OPTIONS, accumulate=1)


def keep(file: Path, weights: Weights) -> None:
    """Write weights, once."""
    assert PartialState().num_processes == distributed.get_world_size() == 2
    if rank() == 0:
        torch.save(weights, file)
    distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
