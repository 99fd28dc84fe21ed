"""The Distiller in transformers' Trainer: the loss it adds, that it is out of the way otherwise, and its messages."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from transformers import BertModel, DataCollatorWithFlattening, Trainer

from headstart.adapters.trainer import DistillTrainer
from headstart.distill import Teacher
from headstart.errors import HeadstartError, TeacherError
from tests.adapters.by_hand import CAUSAL, OPEN, gradient_by_hand, moved, run, stacked
from tests.adapters.loops import trainer_arguments
from tests.adapters.tiny_models import model, rows


@pytest.mark.parametrize(
    ("kind", "accumulate"),
    [("classifier", 1), ("bert", 1), ("modernbert", 1), ("modernbert", 2), ("gpt2", 1), ("llama", 1), ("llama", 2)],
)
def test_gradient_is_that_of_the_loss_by_hand(kind: str, accumulate: int, tmp_path: Path) -> None:
    """With padding, prompts, unequal micro-batches, and a teacher smaller than the student."""
    student, teacher, data = model(kind), model(kind, width=4, seed=5), rows(kind, 4)
    expected = gradient_by_hand(student, teacher.eval(), stacked(data), causal=kind in CAUSAL)
    before = copy.deepcopy(student)
    size: dict[str, Any] = {"per_device_train_batch_size": 4 // accumulate, "gradient_accumulation_steps": accumulate}
    run(student, data, tmp_path, teachers=teacher, distill=OPEN, **size)
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


def test_packed_sequences_are_taught_as_padded_ones(tmp_path: Path) -> None:
    student, teacher, data = model("llama"), model("llama", seed=5), rows("llama", 4)
    expected = gradient_by_hand(student, teacher.eval(), stacked(data), causal=True)
    before = copy.deepcopy(student)
    real = [int(row["attention_mask"].sum()) for row in data]
    unpadded: Any = [
        {name: row[name][:length].tolist() for name in ("input_ids", "labels")}
        for row, length in zip(data, real, strict=True)
    ]
    run(student, unpadded, tmp_path, teachers=teacher, distill=OPEN, data_collator=DataCollatorWithFlattening())
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


def test_shifted_labels_of_a_collator_are_used_as_they_are(tmp_path: Path) -> None:
    student, teacher, data = model("llama"), model("llama", seed=5), rows("llama", 4)
    expected = gradient_by_hand(student, teacher.eval(), stacked(data), causal=True)
    before = copy.deepcopy(student)
    shifted = [{**row, "shift_labels": torch.cat([row["labels"][1:], torch.tensor([-100])])} for row in data]
    run(student, shifted, tmp_path, teachers=teacher, distill=OPEN)
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_ignores_num_items_in_batch_can_say_so(tmp_path: Path) -> None:
    """As for the Trainer alone, each micro-batch then has its own mean."""

    class Told(DistillTrainer):
        loss_is_scaled_for_ga = False

        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(data)

    student, teacher, data = model("bert"), model("bert", seed=5), rows("bert", 4)
    before = copy.deepcopy(student)
    halves = [gradient_by_hand(student, teacher.eval(), stacked(data[i : i + 2]), causal=False) for i in (0, 2)]
    size: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    run(student, data, tmp_path, trainer=Told, teachers=teacher, distill=OPEN, **size)
    expected = tuple((first + second) / 2 for first, second in zip(*halves, strict=True))
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


class Mine(Trainer):
    """Somebody's own Trainer, with a loss of its own that takes the labels out of the batch."""

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, *_: Any, **__: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def test_before_a_trainer_of_ones_own(tmp_path: Path) -> None:
    class Distilling(DistillTrainer, Mine):
        pass

    student, teacher, data = model("classifier"), model("classifier", seed=5), rows("classifier", 4)
    expected = gradient_by_hand(student, teacher.eval(), stacked(data), causal=False)
    before = copy.deepcopy(student)
    run(student, data, tmp_path, trainer=Distilling, teachers=teacher, distill=OPEN)
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


def test_a_loss_function_of_ones_own_beside_a_model_that_gives_logits_alone(tmp_path: Path) -> None:
    class Bare(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).logits  # type: ignore[no-any-return]

    def loss_of(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch

    student, teacher, data = model("classifier"), model("classifier", seed=5), rows("classifier", 4)
    expected = gradient_by_hand(student, teacher.eval(), stacked(data), causal=False)
    before = copy.deepcopy(student)
    size: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    own: dict[str, Any] = {"teachers": teacher, "distill": OPEN, "label_names": ["labels"]}
    run(Bare(student), data, tmp_path, compute_loss_func=loss_of, **size, **own)
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_models_that_return_tuples(smoothing: float, tmp_path: Path) -> None:
    """Without the loss at their beginning, where the Trainer keeps the labels from the model."""
    named, plain, teacher = model("classifier"), model("classifier"), model("classifier", seed=5)
    plain.config.return_dict = False
    for student in (named, plain):
        given: dict[str, Any] = {"teachers": teacher, "distill": OPEN, "label_smoothing_factor": smoothing}
        run(student, rows("classifier", 4), tmp_path, **given)
    torch.testing.assert_close(plain.state_dict(), named.state_dict(), rtol=0, atol=0)


def test_the_window_fits_the_steps_of_a_batch_size_found_by_trying(tmp_path: Path) -> None:
    """Which is known only after a first step that failed."""
    student = model("classifier")

    def limit(_: nn.Module, __: Any, inputs: dict[str, Tensor]) -> None:
        if student.training and len(inputs["input_ids"]) > 4:
            raise RuntimeError("CUDA out of memory.")

    student.register_forward_pre_hook(limit, with_kwargs=True)
    size: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 8}
    size |= {"auto_find_batch_size": True, "teachers": model("classifier", seed=5), "distill": {"stop": 0.5}}
    trainer = run(student, rows("classifier", 16), tmp_path, **size)
    assert trainer.distiller.total_steps == trainer.state.max_steps > 2
    assert trainer.distiller.last.step == trainer.state.max_steps // 2 - 1


@pytest.mark.parametrize("kind", ["classifier", "bert", "modernbert", "gpt2"])
@pytest.mark.parametrize("closed", [False, True], ids=["no teachers", "closed window"])
def test_step_for_step_the_stock_trainer_where_nothing_is_distilled(kind: str, closed: bool, tmp_path: Path) -> None:
    """Losses, gradient norms, evaluation and weights; with dropout, accumulation, clipping and label smoothing."""
    settings: dict[str, Any] = {
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 0.5,
        "label_smoothing_factor": 0.1,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
    }
    ours: dict[str, Any] = {"teachers": model(kind, seed=5), "distill": {"stop": 0.0}} if closed else {}
    stock_student, student = (model(kind, dropout=0.3) for _ in range(2))
    stock = run(stock_student, rows(kind, 8), tmp_path, trainer=Trainer, **settings)
    distilling = run(student, rows(kind, 8), tmp_path, **settings, **ours)
    assert _told(distilling) == _told(stock)
    assert len(_told(stock)) > 6
    torch.testing.assert_close(student.state_dict(), stock_student.state_dict(), rtol=0, atol=0)


def _told(trainer: Any) -> list[dict[str, float]]:
    timings = ("runtime", "per_second")
    return [
        {name: value for name, value in entry.items() if not name.endswith(timings)}
        for entry in trainer.state.log_history
    ]


def test_evaluation_asks_no_teacher(tmp_path: Path) -> None:
    student, teacher, data = model("modernbert"), model("modernbert", seed=5), rows("modernbert", 4)
    asked = []
    teacher.register_forward_hook(lambda *_: asked.append(1))
    trainer = run(student, data, tmp_path, teachers=teacher, distill=OPEN, max_steps=2)
    assert len(asked) == 2
    trained = model("modernbert")
    trained.load_state_dict(student.state_dict())
    stock = Trainer(trained, trainer_arguments(tmp_path), eval_dataset=data)
    assert trainer.evaluate()["eval_loss"] == stock.evaluate()["eval_loss"]
    assert len(asked) == 2


def test_teachers_run_in_the_students_precision_and_without_a_cache(tmp_path: Path) -> None:
    student, teacher = model("gpt2"), model("gpt2", seed=5)
    seen = []

    def note(_: Any, __: Any, outputs: Any) -> None:
        seen.append((outputs.logits.dtype, outputs.past_key_values))

    teacher.register_forward_hook(note)
    run(student, rows("gpt2", 2), tmp_path, teachers=teacher, distill=OPEN, bf16=True)
    assert seen == [(torch.bfloat16, None)]


def test_checkpoints_hold_the_state(tmp_path: Path) -> None:
    """Which does not disturb a Trainer that restores its callbacks' states."""
    settings: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "distill": OPEN}
    data = rows("classifier", 4)
    whole = run(model("classifier"), data, tmp_path, teachers=model("classifier", seed=5), **settings)
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["headstart"]["attributes"] == {"current_step": 2}
    settings |= {"restore_callback_states_from_checkpoint": True, "resume": tmp_path / "checkpoint-2"}
    resumed = run(model("classifier"), data, tmp_path, teachers=model("classifier", seed=5), **settings)
    assert resumed.distiller.last.step == 3
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


class Replicas(nn.Module):
    """What `nn.DataParallel` does on two GPUs, on one device: halves of the inputs, and their outputs together."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Tensor) -> Any:
        halves = zip(*(value.chunk(2) for value in inputs.values()), strict=True)
        outputs = [self.module(**dict(zip(inputs, half, strict=True))) for half in halves]
        values = {name: [output[name] for output in outputs] for name in outputs[0]}
        rows = {name: [value.reshape(-1, *value.shape[1:]) for value in each] for name, each in values.items()}
        return type(outputs[0])(**{name: torch.cat(each) for name, each in rows.items()})


@pytest.mark.parametrize(("kind", "factor"), [("modernbert", 1), ("bert", 2)])
def test_what_several_gpus_in_one_process_do_to_the_stock_trainer(
    kind: str, factor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why these are refused: a model that ignores `num_items_in_batch` has its loss multiplied by their number."""
    data = rows(kind, 4)

    class OnTwo(Trainer):
        def __init__(self, model: nn.Module, args: Any, **more: Any) -> None:
            args._n_gpu = 2
            super().__init__(model, args, **more)

        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(data)

    student = model(kind)
    before, parameters = copy.deepcopy(student), list(student.parameters())
    halves = [stacked(data[start : start + 2]) for start in (0, 2)]
    if factor == 1:
        whole = torch.autograd.grad(student(**stacked(data)).loss, parameters)
    else:
        whole = torch.autograd.grad(sum(student(**half).loss for half in halves) / 2, parameters)
    monkeypatch.setattr(nn, "DataParallel", Replicas)
    run(student, data, tmp_path, trainer=OnTwo, per_device_train_batch_size=2)
    torch.testing.assert_close(moved(before, student), tuple(factor * part for part in whole), rtol=1e-4, atol=1e-5)


class TestMessages:
    """What is wrong, where, and what to do."""

    def test_of_several_gpus_in_one_process(self, tmp_path: Path) -> None:
        arguments: Any = trainer_arguments(tmp_path)
        arguments._n_gpu = 2
        DistillTrainer(model("classifier"), arguments)
        with pytest.raises(HeadstartError, match=r"one process has 2 GPUs.* \(torchrun --nproc-per-node 2 SCRIPT\)"):
            DistillTrainer(model("classifier"), arguments, teachers=model("classifier", seed=5))

    def test_of_a_teacher_that_is_the_student(self, tmp_path: Path) -> None:
        student = model("classifier")
        with pytest.raises(TeacherError, match=r"'old' is the student itself.*load it once more, or make the teacher"):
            DistillTrainer(student, trainer_arguments(tmp_path), teachers=Teacher(student, name="old"))

    def test_of_a_teacher_without_logits(self, tmp_path: Path) -> None:
        student = model("classifier")
        teacher = Teacher(BertModel(student.config), name="headless")
        with pytest.raises(TeacherError, match="'headless': its forward gave no logits; it must return"):
            run(student, rows("classifier", 2), tmp_path, teachers=teacher)

    def test_of_a_teacher_that_needs_what_the_batch_lacks(self, tmp_path: Path) -> None:
        class Boxed(nn.Module):
            def forward(self, input_ids: Tensor, boxes: Tensor) -> Tensor:
                raise AssertionError("is not reached")

        with pytest.raises(TeacherError, match="'layout' needs the input 'boxes', which the batch lacks"):
            run(model("classifier"), rows("classifier", 2), tmp_path, teachers=Teacher(Boxed(), name="layout"))

    def test_of_a_student_without_logits(self, tmp_path: Path) -> None:
        class Silent(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(()))

            def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
                return {"loss": self.weight}

        data = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows("classifier", 2)]
        with pytest.raises(HeadstartError, match="the student gave no `logits` to distil"):
            run(Silent(), data, tmp_path, teachers=model("classifier"))

    def test_of_a_loss_that_passes_the_mixin_by(self, tmp_path: Path) -> None:
        class Deaf(DistillTrainer):
            compute_loss = Mine.compute_loss

        with pytest.raises(
            HeadstartError, match=r"Deaf does not reach DistillTrainer.compute_loss, so nothing is dist"
        ):
            run(model("classifier"), rows("classifier", 2), tmp_path, trainer=Deaf, teachers=model("classifier"))

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"stop": 40}, "stop=40 is outside"),
            ({"loss": "hinton"}, "loss='hinton' is unknown"),
            ({"total_steps": 9}, "total_steps is the Trainer's own number of steps; leave it out"),
        ],
    )
    def test_of_a_wrong_option_come_before_training(self, option: Any, message: str, tmp_path: Path) -> None:
        with pytest.raises(HeadstartError, match=message):
            DistillTrainer(
                model("classifier"), trainer_arguments(tmp_path), teachers=model("classifier", seed=5), distill=option
            )
