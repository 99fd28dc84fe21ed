"""A fine-tuning: AdamW and schedule by their formulas, the loss transformers would take, outputs in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headstart.errors import HeadstartError
from headstart.tasks.glue import GLUE_TASKS
from headstart.tasks.glue.batches import padded, training_batches
from headstart.tasks.glue.checkpoint import load_classifier, open_checkpoint
from headstart.tasks.glue.data import find_data
from headstart.tasks.glue.finetune import count_steps, finetune, predict, task_loss
from headstart.tasks.glue.metrics import measure
from headstart.tasks.glue.tokens import TokenSet, tokenize
from tests.tasks.glue.tiny import write_task

CPU = torch.device("cpu")
SST2, STSB = GLUE_TASKS["sst2"], GLUE_TASKS["stsb"]


@dataclass
class Output:
    logits: Tensor


class BagOfWords(nn.Module):
    """The smallest thing with transformers' interface."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.table = nn.Embedding(19, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Output:
        return Output((self.table(input_ids) * attention_mask[..., None]).sum(1))


def tokens(samples: int = 40, *, scores: bool = False) -> TokenSet:
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 9, size=samples)
    ids = generator.integers(5, 19, size=lengths.sum()).astype(np.int32)
    labels = generator.random(samples).astype(np.float32) if scores else generator.integers(0, 2, size=samples)
    return TokenSet(ids, None, lengths, labels)


def run(model: nn.Module, train: TokenSet, **changes: Any) -> list[tuple[int, int, float]]:
    told: list[tuple[int, int, float]] = []
    settings = {"task": SST2, "steps": 10, "seed": 0, "padding": 0, "precision": "fp32", **changes}
    finetune(model, train, progress=lambda *step: told.append(step), **settings)
    return told


def by_the_formulas(model: nn.Module, train: TokenSet, steps: int, warmup: int) -> Tensor:
    """AdamW of SST-2's settings in float64, its decay decoupled as the authors' optimiser has it."""
    weight = model.get_parameter("table.weight")
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    batches = islice(training_batches(train.lengths, 16, seed=0), steps)
    for step, rows in enumerate(batches):
        scale = step / warmup if step < warmup else (steps - step) / (steps - warmup)
        logits = model(**padded(train, rows, padding=0, device=CPU)).logits
        picked = torch.log_softmax(logits, -1)[range(len(rows)), torch.from_numpy(train.labels[rows])]
        (gradient,) = torch.autograd.grad(-picked.mean(), weight)
        with torch.no_grad():
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.98).add_(0.02 * gradient**2)
            weight.mul_(1 - 3e-6 * scale)
            size = (second / (1 - 0.98 ** (step + 1))).sqrt() + 1e-6
            weight.sub_(3e-5 * scale * first / (1 - 0.9 ** (step + 1)) / size)
    return weight.detach()


def test_weights_after_a_fine_tuning_are_those_of_the_formulas() -> None:
    train, steps = tokens(), 34  # of which 6 %, 2.04, are warm-up
    torch.manual_seed(1)
    reference = BagOfWords().double()
    model = BagOfWords().double()
    model.load_state_dict(reference.state_dict())
    start = model.table.weight.detach().clone()
    run(model, train, steps=steps)
    expected = by_the_formulas(reference, train, steps, warmup=2)
    assert (expected - start).abs().max() > 4e-4
    # The loss is computed in float32, whatever the model is in.
    torch.testing.assert_close(model.table.weight.detach(), expected, rtol=0, atol=2e-8)


@pytest.mark.parametrize("task", [SST2, STSB], ids=lambda task: str(task.name))
def test_the_loss_is_the_one_that_transformers_takes(task: Any, checkpoint: Path) -> None:
    model = load_classifier(checkpoint, task.classes, seed=0, device=CPU).model.eval()
    inputs = {"input_ids": torch.randint(5, 19, (6, 7)), "attention_mask": torch.ones(6, 7)}
    labels = torch.rand(6) * 5 if task is STSB else torch.randint(0, 2, (6,))
    theirs = model(**inputs, labels=labels)
    torch.testing.assert_close(task_loss(theirs.logits, labels), theirs.loss)


@pytest.mark.parametrize(
    ("samples", "epochs", "steps"), [(32, 3, 6), (33, 3, 9), (67349, 3, 12630), (33, 0.5, 2), (33, 0.01, 1)]
)
def test_an_epochs_last_smaller_batch_is_a_step(samples: int, epochs: float, steps: int) -> None:
    assert count_steps(SST2, samples, epochs) == steps


def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    told = run(BagOfWords(), tokens(), steps=45)
    assert [step for step, _, _ in told] == [20, 40, 45]
    assert {total for _, total, _ in told} == {45}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_outputs_come_in_the_order_of_the_samples(precision: str, checkpoint: Path, data: Path) -> None:
    write_task(data, "sst2", validation=150)
    opened = open_checkpoint(checkpoint)
    validation = tokenize(opened, find_data(SST2).read("validation"))
    model = load_classifier(checkpoint, 2, seed=0, device=CPU).model
    outputs = predict(model, validation, padding=opened.padding, precision=precision)  # type: ignore[arg-type]
    assert outputs.shape == (150, 2) and outputs.dtype == np.float32
    for row in (0, 77, 149):
        alone = padded(validation, np.array([row]), padding=0, device=CPU)
        with torch.no_grad():
            expected = model(**alone).logits[0].numpy()
        np.testing.assert_allclose(outputs[row], expected, atol=1e-6 if precision == "fp32" else 2e-2)


@pytest.mark.parametrize("name", ["sst2", "stsb"])
def test_what_can_be_learnt_is_learnt(name: str, checkpoint: Path, data: Path) -> None:
    write_task(data, name, train=200, validation=100)
    opened, task = open_checkpoint(checkpoint), replace(GLUE_TASKS[name], lr=1e-2, decay=0.0)
    train, validation = (tokenize(opened, find_data(task).read(split)) for split in ("train", "validation"))
    torch.manual_seed(0)
    model = load_classifier(checkpoint, task.classes, seed=0, device=CPU).model
    before = measure(task.metrics[0], predict(model, validation, padding=0, precision="fp32"), validation.labels)
    run(model, train, task=task, steps=60)
    after = measure(task.metrics[0], predict(model, validation, padding=0, precision="fp32"), validation.labels)
    assert before < 0.7 and after > 0.8


def test_a_loss_that_is_not_finite_ends_it() -> None:
    model = BagOfWords()
    with torch.no_grad():
        model.table.weight.fill_(float("nan"))
    with pytest.raises(HeadstartError, match=r"GLUE task sst2: the loss is nan at step 10; .* try precision fp32"):
        run(model, tokens())
