"""The Trainer that aligns hidden states: micro-batches, padding, leaving and coming back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

from torch.nn import functional as F
from transformers import TrainerCallback

from headstart.adapters.aligning_trainer import AligningTrainer
from headstart.adapters.trainer import DistillTrainer
from headstart.distill import HiddenLoss
from headstart.errors import HeadstartError
from tests.adapters.loops import trainer_arguments
from tests.adapters.tiny_models import TOKENS, VOCABULARY, model
from tests.train.processes import run_together

ROWS, STEPS = 24, 6
PATHS: Any = {"layer": "transformer.h.0", "teacher_layer": "model.layers.0"}


def padded() -> list[dict[str, Tensor]]:
    """Texts of 5 to 10 tokens; each has 4 labels, so that a task loss is the same in parts."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, VOCABULARY, (ROWS, TOKENS), generator=generator)
    lengths = torch.randint(5, TOKENS + 1, (ROWS, 1), generator=generator)
    places = torch.arange(TOKENS).expand(ROWS, -1)
    labels = torch.where((places > 0) & (places < 5), tokens, -100)
    columns = {"input_ids": tokens, "attention_mask": (places < lengths).long(), "labels": labels}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


DATA: Any = padded()


def without_masks() -> Any:
    return [{name: value for name, value in row.items() if name != "attention_mask"} for row in DATA]


def made(**changes: Any) -> tuple[Any, HiddenLoss]:
    student, teacher = model("gpt2"), model("llama", width=16, seed=5)
    first = {"input_ids": DATA[0]["input_ids"][None]}
    options = {"total_steps": STEPS, "weight": 0.5, "stop": 1.0, **PATHS, **changes}
    return student, HiddenLoss(student, teacher, first, **options)


class InOrder(AligningTrainer):
    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(DATA)


class Halt(TrainerCallback):
    """Saves and leaves after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def train(
    folder: Path,
    *,
    of: tuple[Any, HiddenLoss] | None = None,
    data: Any = DATA,
    cls: type[AligningTrainer] = InOrder,
    halt: int | None = None,
    resume: bool = False,
    given: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    student, align = of or made()
    told = {
        "optim": "adamw_torch", "learning_rate": 0.01, "lr_scheduler_type": "linear", "num_train_epochs": 1,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
    }  # fmt: skip
    arguments = trainer_arguments(folder, **{**told, **settings})
    callbacks = [Halt(halt)] if halt else []
    trainer = cls(student, arguments, train_dataset=data, align=align, callbacks=callbacks, **(given or {}))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("masks", [True, False], ids=["padded", "whole"])
@pytest.mark.parametrize("kind", ["loss-kwargs", "no-loss-kwargs", "loss-function"])
def test_micro_batches_train_the_weights_of_the_whole_batch(kind: str, masks: bool, tmp_path: Path) -> None:
    def summed(outputs: Any, labels: Tensor, num_items_in_batch: Any) -> Tensor:
        shifted = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        total: Tensor = F.cross_entropy(*shifted, reduction="sum") / num_items_in_batch
        return total

    trained = []
    for size, parts, weight in ((4, 1, 0.5), (2, 2, 0.5), (1, 4, 0.5), (4, 1, 0.0)):
        student, align = made(weight=weight)
        student.accepts_loss_kwargs = kind == "loss-kwargs"
        settings: dict[str, Any] = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        settings |= {"optim": "sgd", "learning_rate": 0.1}
        given = {"compute_loss_func": summed} if kind == "loss-function" else {}
        train(tmp_path, of=(student, align), data=DATA if masks else without_masks(), given=given, **settings)
        assert align.projection is None
        trained.append(student.state_dict())
    whole, *parted, untaught = trained
    layer = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.allclose(untaught[layer], whole[layer], rtol=1e-2)
    for weights in parted:
        for name, value in weights.items():
            torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-5)


def test_a_step_is_that_of_the_formula_by_hand(tmp_path: Path) -> None:
    student, align = made(falling=False)
    before = model("gpt2")
    train(tmp_path, of=(student, align), max_steps=1, optim="sgd", learning_rate=1.0, lr_scheduler_type="constant")
    batch = {name: torch.stack([row[name] for row in DATA[:4]]) for name in DATA[0]}
    teacher, real = model("llama", width=16, seed=5), batch["attention_mask"].bool()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    caught: list[Any] = []
    for module in (before.transformer.h[0], teacher.model.layers[0]):
        module.register_forward_hook(lambda *given: caught.append(given[-1]))
    loss = before(**batch).loss
    teacher(**inputs)
    own, theirs = ((one[0] if isinstance(one, tuple) else one)[real] for one in caught)
    weight = made()[1].projection
    assert weight is not None
    loss = loss + 0.5 * (1 - F.cosine_similarity(own @ weight.T, theirs.detach())).mean()
    gradients = torch.autograd.grad(loss, [*before.parameters()])
    for old, new, gradient in zip(before.parameters(), student.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [0.34, 1.0], ids=["closed", "open"])
@pytest.mark.parametrize("halt", [2, 4])
def test_a_killed_training_goes_on_where_it_was(stop: float, halt: int, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", of=made(stop=stop))
    train(tmp_path / "again", of=made(stop=stop), halt=halt)
    again = train(tmp_path / "again", of=made(stop=stop), resume=True)
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.align.current_step == STEPS and again.align.projection is None


def test_a_checkpoint_without_the_projection_is_refused(tmp_path: Path) -> None:
    train(tmp_path, halt=2)
    (tmp_path / "checkpoint-2" / "align.pt").unlink()
    with pytest.raises(HeadstartError, match=r"checkpoint-2 has no align\.pt, and so no projection"):
        train(tmp_path, resume=True)


def test_evaluation_has_nothing_of_it(tmp_path: Path) -> None:
    student, align = made()
    trainer = train(tmp_path, of=(student, align), halt=2, given={"eval_dataset": DATA})
    loss = trainer.evaluate()["eval_loss"]
    batch = {name: torch.stack([row[name] for row in DATA]) for name in DATA[0]}
    assert loss == pytest.approx(student(**batch).loss.item(), rel=1e-4)


def test_a_distilling_trainer_behind_it_distils_as_well(tmp_path: Path) -> None:
    class Both(InOrder, DistillTrainer):
        pass

    trained = []
    for size, parts in ((4, 1), (2, 2)):
        given = {"teachers": model("gpt2", seed=3), "distill": {"stop": 1.0}}
        settings: dict[str, Any] = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        trainer = train(tmp_path, cls=Both, given=given, optim="sgd", learning_rate=0.1, **settings)
        assert trainer.distiller.last is not None and trainer.align.last.step == STEPS - 1
        trained.append(trainer.model.state_dict())
    for name, value in trained[1].items():
        torch.testing.assert_close(value, trained[0][name], rtol=1e-4, atol=1e-5)


def test_several_gpus_in_one_process_are_refused(tmp_path: Path) -> None:
    arguments = trainer_arguments(tmp_path)
    arguments._n_gpu = 2
    student, align = made()
    with pytest.raises(HeadstartError, match="one process has 2 GPUs"):
        AligningTrainer(student, arguments, train_dataset=DATA, align=align)


def train_in_a_process(folder: Path) -> None:
    """One of two processes; their batches are interleaved, so that each step has the rows of one process's."""
    student, align = made()
    settings: dict[str, Any] = {"gradient_accumulation_steps": 1, "optim": "sgd", "learning_rate": 0.1}
    train(folder, of=(student, align), **settings)
    if torch.distributed.get_rank() == 0:
        torch.save(student.state_dict(), folder / "weights.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_padding_learn_what_one_learns(tmp_path: Path) -> None:
    run_together(train_in_a_process, tmp_path)
    weights = torch.load(tmp_path / "weights.pt")
    alone = train(tmp_path / "alone", optim="sgd", learning_rate=0.1).model.state_dict()
    for name, value in weights.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-5)
