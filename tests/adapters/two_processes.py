"""Trains in each framework's loop as one of two processes; test_two_processes.py starts it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler

from tests.adapters.loops import LOOPS, MICRO_BATCH, Rows, Training

OPTIONS = {"stop": 0.75, "every": 2}
DDP: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "accelerate": ("accelerate", {}),
    "trainer": ("trainer", {}),
    "lightning": ("lightning", DDP),
    "lightning-bf16-mixed": ("lightning", {**DDP, "precision": "bf16-mixed"}),
}


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
        training = (Sharded if loop == "lightning" else Training)(folder, OPTIONS, accumulate=1)
        weights = LOOPS[loop](training, **settings)
        assert PartialState().num_processes == distributed.get_world_size() == 2
        if rank() == 0:
            torch.save(weights, folder / f"{name}.pt")
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
