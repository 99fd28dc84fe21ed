"""The lines of docs/causal-lm.md that align hidden states, in every loop: all train the same weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="needs lightning: pip install headstart[lightning]")

import lightning as L
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from headstart.adapters.aligning_trainer import AligningTrainer
from headstart.distill import HiddenLoss
from tests.adapters.loops import lightning_trainer, trainer_arguments
from tests.adapters.tiny_models import model

STEPS, BATCH, LR = 6, 2, 0.1
TOKENS = torch.randint(1, 20, (STEPS * BATCH, 8), generator=torch.Generator().manual_seed(0))
LABELS = torch.cat([torch.full((len(TOKENS), 1), -100), TOKENS[:, 1:]], dim=1)  # which the Trainer counts
DATA: Any = [{"input_ids": row, "labels": labels} for row, labels in zip(TOKENS, LABELS, strict=True)]
BATCHES: Any = DataLoader(DATA, batch_size=BATCH)


def made(total_steps: int = STEPS, stop: float = 0.5) -> tuple[Any, HiddenLoss]:
    """A student, and its alignment with a wider teacher in the first half."""
    student, teacher = model("gpt2"), model("llama", width=16, seed=5)
    paths: Any = {"layer": "transformer.h.0", "teacher_layer": "model.layers.0"}
    first = {"input_ids": TOKENS[:1]}
    return student, HiddenLoss(student, teacher, first, total_steps=total_steps, weight=0.5, stop=stop, **paths)


def adam(student: Any) -> torch.optim.Optimizer:
    """Which keeps something of each weight."""
    return torch.optim.AdamW(student.parameters(), lr=0.01)


def assert_same(one: Any, other: Any) -> None:
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def sgd(student: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(student.parameters(), lr=LR)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """The weights of a plain loop."""
    student, align = made()
    optimizer = sgd(student)
    align.join(optimizer)
    weight = align.projection
    assert weight is not None
    before = weight.detach().clone()
    for inputs in BATCHES:
        align(student(**inputs).loss, inputs).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        align.step()
    assert align.projection is None and not torch.equal(weight, before)
    untaught = model("gpt2")
    assert not torch.equal(untaught.lm_head.weight, student.lm_head.weight)
    return dict(student.state_dict())


def check(student: Any, expected: dict[str, Tensor], align: HiddenLoss) -> None:
    assert align.projection is None
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def accelerate(
    folder: Path, *, first: int = 0, last: int = STEPS, make: Any = None, **changes: Any
) -> tuple[Any, HiddenLoss]:
    """The lines of the docs, from one step to another; begun from what the one before left in the folder."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True)
    student, align = made(**changes)
    optimizer = (make or adam)(student)
    align.join(optimizer)
    wrapped, optimizer, batches = accelerator.prepare(student, optimizer, BATCHES)
    accelerator.register_for_checkpointing(align)
    if first:
        accelerator.load_state(str(folder))
    for inputs in itertools.islice(batches, first, last):
        with accelerator.accumulate(wrapped):
            accelerator.backward(align(wrapped(**inputs).loss, inputs))
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            align.step()
    accelerator.save_state(str(folder))
    return student, align


def test_accelerate(expected: dict[str, Tensor], tmp_path: Path) -> None:
    student, align = accelerate(tmp_path, make=sgd)
    check(student, expected, align)


@pytest.mark.parametrize("stop", [0.25, 1.0], ids=["closed", "open"])
def test_accelerate_goes_on_where_it_was(stop: float, tmp_path: Path) -> None:
    whole, _ = accelerate(tmp_path, stop=stop)
    accelerate(tmp_path, last=3, stop=stop)
    again, _ = accelerate(tmp_path, first=3, stop=stop)
    assert_same(again, whole)


def test_trainer(expected: dict[str, Tensor], tmp_path: Path) -> None:
    student, align = made()

    class InOrder(AligningTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(DATA)

    arguments = trainer_arguments(
        tmp_path, optim="sgd", learning_rate=LR, per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1, num_train_epochs=1, lr_scheduler_type="constant", max_grad_norm=0.0,
    )  # fmt: skip
    InOrder(student, arguments, train_dataset=DATA, align=align).train()
    check(student, expected, align)


class Module(L.LightningModule):
    """The student, and the lines of the docs."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.student, self.align = made(**changes)

    def configure_optimizers(self) -> Any:
        optimizer = sgd(self.student)
        self.align.join(optimizer)
        return optimizer

    def training_step(self, inputs: Any, _: int) -> Any:
        self.align.current_step = self.global_step
        return self.align(self.student(**inputs).loss, inputs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["align"] = self.align.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.align.load_state_dict(checkpoint["align"])


def fit(module: Module, folder: Path, epochs: int, checkpoint: Path | None = None) -> Module:
    trainer = lightning_trainer(folder, max_epochs=epochs, accumulate_grad_batches=1)
    trainer.fit(module, BATCHES, ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "state.ckpt")
    return module


def test_lightning(expected: dict[str, Tensor], tmp_path: Path) -> None:
    module = fit(Module(), tmp_path, 1)
    module.align.current_step = STEPS
    check(module.student, expected, module.align)


@pytest.mark.parametrize("stop", [0.25, 0.75], ids=["closed", "open"])
def test_lightning_goes_on_where_it_was(stop: float, tmp_path: Path) -> None:
    whole, again = (Module(total_steps=2 * STEPS, stop=stop) for _ in range(2))
    fit(whole, tmp_path, 2)
    fit(Module(total_steps=2 * STEPS, stop=stop), tmp_path, 1)
    fit(again, tmp_path, 2, tmp_path / "state.ckpt")
    assert_same(again.student, whole.student)
