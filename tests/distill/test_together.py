"""Two processes of which one has nothing to distil: none waits for the other, and gradients are those of all rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from headstart.distill import Distiller
from tests.train.processes import run_together

STEPS, ROWS, FEATURES, CLASSES = 3, 6, 4, 5


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def batch(step: int, rank: int, *, without: int | None) -> tuple[Tensor, Tensor]:
    """Of one process; in the second step one of them (`without`) has no labels."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    labels[: rank + 1] = -100  # and they never have as many
    if step == 1 and rank == without:
        labels[:] = -100
    return torch.randn(ROWS, FEATURES, generator=generator), labels


def train(kind: str, folder: Path) -> None:
    """As one of two processes."""
    distributed.init_process_group("gloo")
    rank, student = distributed.get_rank(), net(0)
    model: nn.Module
    if kind == "fsdp2":
        mesh = init_device_mesh("cpu", (2,))
        model = fully_shard(student, mesh=mesh)  # type: ignore[assignment]
    else:
        model = DistributedDataParallel(student, static_graph=kind == "static")
    distiller = Distiller(net(1), total_steps=STEPS, stop=1.0, weight=0.6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(STEPS):
        both = [batch(step, each, without=1) for each in range(2)]
        items = sum(int((labels != -100).sum()) for _, labels in both) / 2  # as gradients are the mean over processes
        inputs, labels = both[rank]
        logits = model(inputs)
        if kind == "fsdp2" and not bool((labels != -100).any()):
            loss = logits.sum() * 0.0  # leaves the call out
        else:
            loss = distiller.loss(logits, labels, inputs, num_items=items)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()
    state = {name: value.full_tensor() if kind == "fsdp2" else value for name, value in student.state_dict().items()}
    if rank == 0:
        torch.save(state, folder / "weights.pt")


def alone() -> dict[str, Any]:
    """One process over all rows."""
    student, distiller = net(0), Distiller(net(1), total_steps=STEPS, stop=1.0, weight=0.6)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for step in range(STEPS):
        inputs, labels = (torch.cat(part) for part in zip(*(batch(step, r, without=1) for r in range(2)), strict=True))
        distiller.loss(student(inputs), labels, inputs).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()
    return student.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["static", "fsdp2"])
def test_a_process_without_labels_takes_part_all_the_same(kind: str, tmp_path: Path) -> None:
    run_together(train, kind, tmp_path)
    torch.testing.assert_close(torch.load(tmp_path / "weights.pt"), alone(), rtol=1e-5, atol=1e-6)


def train_unevenly(folder: Path) -> None:
    """One process has two batches, the other four."""
    distributed.init_process_group("gloo")
    rank, student, teacher = distributed.get_rank(), net(0), net(1)
    model = DistributedDataParallel(student)
    distiller = Distiller(teacher, total_steps=8, stop=1.0, weight=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with model.join(divide_by_initial_world_size=False):
        for step in range(2 if rank else 4):
            inputs, _ = batch(step, rank, without=None)
            before = copy.deepcopy(student)
            logits = model(inputs)
            distiller(logits.sum(), logits, inputs).backward()  # type: ignore[no-untyped-call]
            if step == 3:  # this process is the only one left, and the gradient is its own
                wanted = before(inputs)
                p, q = ((side / 4).log_softmax(-1) for side in (teacher(inputs), wanted))
                (16 * (p.exp() * (p - q)).sum(-1).mean()).backward()
                for ours, expected in zip(student.parameters(), before.parameters(), strict=True):
                    torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-4, atol=1e-6)
            optimizer.step()
            optimizer.zero_grad()
            distiller.step()
    torch.save(distiller.current_step, folder / f"{rank}.pt")


@pytest.mark.slow
def test_uneven_batches_under_join(tmp_path: Path) -> None:
    run_together(train_unevenly, tmp_path)
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)] == [4, 2]
