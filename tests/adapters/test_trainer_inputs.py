"""What the Trainer's teachers are given: the student's decoder inputs, and columns that only they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer

from headstart.adapters.trainer import DistillTrainer
from headstart.errors import HeadstartError
from tests.adapters.by_hand import OPEN, run, stacked
from tests.adapters.tiny_models import VOCABULARY, Rows, model, rows, seq2seq


def translations() -> Rows:
    generator = torch.Generator().manual_seed(3)

    def tokens(count: int) -> Tensor:
        return torch.randint(3, VOCABULARY, (count,), generator=generator)

    return [{"input_ids": tokens(7), "labels": tokens(5)} for _ in range(4)]


def divergence(student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor]) -> float:
    """Over the target's tokens, both models being given the whole batch."""
    with torch.no_grad():
        own, other = (F.log_softmax(net.eval()(**batch).logits / 2.0, -1) for net in (student, teacher))
    values = 4.0 * F.kl_div(own, other, log_target=True, reduction="none").sum(-1)
    return values[batch["labels"] != -100].mean().item()


@pytest.mark.parametrize("kind", ["bart", "t5", "m2m100"])
def test_teachers_decode_from_the_students_inputs(kind: str, tmp_path: Path) -> None:
    student, teacher, data = seq2seq(kind), seq2seq(kind, seed=5), translations()
    data[0]["labels"][3:] = -100
    expected = divergence(student, teacher, stacked(data))
    trainer = run(student, data, tmp_path, teachers=teacher, distill=OPEN)
    assert trainer.distiller.last.distill_loss == pytest.approx(expected, rel=1e-4)


def test_before_the_trainer_for_sequence_to_sequence(tmp_path: Path) -> None:
    class Mine(DistillTrainer, Seq2SeqTrainer):
        pass

    student, teacher, data = seq2seq("t5"), seq2seq("t5", seed=5), translations()
    expected = divergence(student, teacher, stacked(data))
    settings: dict[str, Any] = {"max_steps": 1, "per_device_train_batch_size": 4, "predict_with_generate": True}
    quiet: dict[str, Any] = {"report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
    arguments = Seq2SeqTrainingArguments(str(tmp_path), **settings, **quiet)
    trainer: Any = Mine(student, arguments, train_dataset=data, eval_dataset=data, teachers=teacher, distill=OPEN)
    trainer.train()
    assert trainer.distiller.last.distill_loss == pytest.approx(expected, rel=1e-4)
    assert trainer.evaluate()["eval_loss"] > 0


class Boxed(nn.Module):
    """Takes what no student takes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = model("classifier", seed=5), 0.0

    def forward(self, input_ids: Tensor, boxes: Tensor, labels: Tensor | None = None) -> Tensor:
        self.seen += boxes.sum().item()
        return self.inner(input_ids=input_ids).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("drops", [True, False], ids=["columns dropped", "columns kept"])
def test_teachers_are_given_what_only_they_take(drops: bool, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets")

    class Strict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model("classifier")

        def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels)

    data = [{**row, "boxes": torch.ones(2)} for row in rows("classifier", 4)]
    table = datasets.Dataset.from_list([{name: value.tolist() for name, value in row.items()} for row in data])
    teacher = Boxed()
    trainer = run(
        Strict(), table, tmp_path, teachers=teacher, distill=OPEN, label_names=["labels"], remove_unused_columns=drops
    )
    assert teacher.seen == 8
    assert trainer.evaluate()["eval_loss"] > 0


class Targets(nn.Module):
    """Calls its labels something else, and leaves out those of -100."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layer(inputs)
        return {"logits": logits} if targets is None else {"loss": F.cross_entropy(logits, targets), "logits": logits}


def test_labels_of_another_name_leave_rows_out_too(tmp_path: Path) -> None:
    student, teacher = Targets(0), Targets(5)
    targets = [-100, 1, 2, -100, 0, 1]
    data = [{"inputs": torch.randn(4), "targets": torch.tensor(target)} for target in targets]
    inputs = torch.stack([row["inputs"] for row in data])
    own, other = (F.log_softmax(net.layer(inputs) / 2.0, -1) for net in (student, teacher))
    values = 4.0 * F.kl_div(own, other, log_target=True, reduction="none").sum(-1)
    expected = values[torch.tensor(targets) != -100].mean().item()
    trainer = run(student, data, tmp_path, teachers=teacher, distill=OPEN, label_names=["targets"])
    assert trainer.distiller.last.distill_loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("by_itself", [{"stop": "auto"}, {"stop": 1.0, "open_at": 0.5}])
def test_a_window_by_itself_takes_no_padding_for_labels(by_itself: dict[str, Any], tmp_path: Path) -> None:
    """Of a task loss that makes its own of the inputs nothing is known to judge the student by."""
    student, teacher, data = model("llama"), model("llama", seed=5), rows("llama", 4)
    for row in data:
        del row["labels"]
    options = {**by_itself, "weight": 1.0}
    with pytest.raises(HeadstartError, match="there is no task loss"):
        run(student, data, tmp_path, teachers=teacher, distill=options)

    class Base(Trainer):
        def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, *_: Any, **__: Any) -> Any:
            outputs = model(**inputs)
            loss = outputs.logits.square().mean()
            return (loss, outputs) if return_outputs else loss

    class Own(DistillTrainer, Base):
        pass

    with pytest.raises(HeadstartError, match=r"there are none: call distiller\(.*labels=labels\)"):
        run(student, data, tmp_path, trainer=Own, teachers=teacher, distill={**by_itself, "weight": 0.5})


def test_padding_without_labels_is_left_out(tmp_path: Path) -> None:
    student, teacher, data = model("llama"), model("llama", seed=5), rows("llama", 4)
    for row in data:
        del row["labels"]
    batch = stacked(data)
    with torch.no_grad():
        own, other = (F.log_softmax(net.eval()(**batch).logits / 2.0, -1) for net in (student, teacher))
    values = 4.0 * F.kl_div(own, other, log_target=True, reduction="none").sum(-1)
    options = {**OPEN, "weight": 1.0}
    trainer = run(student, data, tmp_path, teachers=teacher, distill=options)
    expected = values[batch["attention_mask"] > 0].mean().item()
    assert trainer.distiller.last.distill_loss == pytest.approx(expected, rel=1e-4)
