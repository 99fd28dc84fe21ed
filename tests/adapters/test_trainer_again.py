"""Trainings of one Trainer one after another, trainings without labels, and what has nothing to distil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from headstart.adapters.trainer import DistillTrainer
from headstart.errors import HeadstartError
from tests.adapters.by_hand import run, stacked
from tests.adapters.loops import trainer_arguments
from tests.adapters.tiny_models import model, rows


def asking(folder: Path) -> tuple[Any, list[int]]:
    """A Trainer that makes its students, and the steps in which its teacher is asked."""
    teacher, asked = model("classifier", seed=5), []
    trainer = DistillTrainer(
        args=trainer_arguments(folder, max_steps=4, gradient_accumulation_steps=1, per_device_train_batch_size=2),
        model_init=lambda: model("classifier"),
        train_dataset=rows("classifier", 8),
        eval_dataset=rows("classifier", 8),
        teachers=teacher,
        distill={"stop": 0.5},
    )
    teacher.register_forward_hook(lambda *_: asked.append(trainer.state.global_step))
    return trainer, asked


def test_each_training_is_taught_in_its_own_window(tmp_path: Path) -> None:
    trainer, asked = asking(tmp_path)
    weights = []
    for _ in range(2):
        asked.clear()
        trainer.train()
        assert asked == [0, 1]
        weights.append(trainer.model.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_a_training_that_is_resumed_can_let_its_teacher_go(tmp_path: Path) -> None:
    """With `stop` set to what is trained, it goes on as a training without teachers does."""
    ended: list[tuple[int, int]] = []
    for distill in ({"stop": 1.0}, {"stop": 0.5}):
        teacher = model("classifier", seed=5)
        asked: list[None] = []
        teacher.register_forward_hook(lambda *_, asked=asked: asked.append(None))
        trainer = DistillTrainer(
            model("classifier"),
            trainer_arguments(
                tmp_path, max_steps=4, gradient_accumulation_steps=1, per_device_train_batch_size=2,
                save_strategy="steps", save_steps=2,
            ),
            train_dataset=rows("classifier", 8),
            teachers=teacher,
            distill=distill,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2") if ended else None)
        ended.append((trainer.state.global_step, len(asked)))
    assert ended == [(4, 4), (4, 0)]


def test_so_is_each_trial_of_a_search(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trainer, asked = asking(tmp_path)
    trainer.hyperparameter_search(
        n_trials=2,
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-3)},
        compute_objective=lambda _: 0.0,
    )
    assert asked == [0, 1] * 2


class TestWithoutLabels:
    """What there is to learn comes from the teachers alone."""

    def test_the_gradient_is_that_of_the_divergence(self, tmp_path: Path) -> None:
        student, teacher = model("classifier"), model("classifier", seed=5)
        data = [{name: value for name, value in row.items() if name != "labels"} for row in rows("classifier", 4)]
        with torch.no_grad():
            own, other = (F.log_softmax(net.eval()(**stacked(data)).logits / 2.0, -1) for net in (student, teacher))
        expected = 4.0 * F.kl_div(own, other, log_target=True, reduction="batchmean")
        options = {"stop": 1.0, "weight": 1.0, "temperature": 2.0}
        trainer = run(student, data, tmp_path, teachers=teacher, distill=options)
        assert trainer.distiller.last.distill_loss == pytest.approx(expected.item(), rel=1e-4)
        assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(expected.item(), rel=1e-4)

    def test_a_model_that_makes_a_loss_of_its_inputs_has_a_task(self, tmp_path: Path) -> None:
        class Itself(nn.Module):
            def __init__(self, seed: int = 0) -> None:
                super().__init__()
                self.inner = model("classifier", seed=seed)

            def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
                logits = self.inner(input_ids=input_ids).logits
                return {"loss": logits.square().mean(), "logits": logits}

        data = [{"input_ids": row["input_ids"]} for row in rows("classifier", 4)]
        trainer = run(Itself(), data, tmp_path, teachers=Itself(seed=5), distill={"stop": 1.0})
        assert trainer.distiller.last.task_loss > 0

    @pytest.mark.parametrize("options", [{"stop": 1.0}, {"weight": 1.0}, {"weight": 1.0, "stop": 1.0, "every": 2}])
    def test_a_step_that_would_learn_nothing_is_refused(self, options: Any, tmp_path: Path) -> None:
        data = [{"input_ids": row["input_ids"]} for row in rows("classifier", 4)]
        with pytest.raises(HeadstartError, match=r"has no labels.*'weight': 1.0, 'stop': 1.0"):
            run(model("classifier"), data, tmp_path, teachers=model("classifier", seed=5), distill=options, max_steps=4)


def test_labels_that_belong_to_no_row_are_refused(tmp_path: Path) -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 6)

        def forward(self, pixels: Tensor, labels: Any = None) -> dict[str, Tensor]:
            logits = self.body(pixels).unflatten(1, (2, 3))
            return {"loss": logits.square().mean(), "logits": logits}

    def collate(samples: Any) -> dict[str, Any]:
        return {"pixels": torch.stack([row["pixels"] for row in samples]), "labels": [{"boxes": 1} for _ in samples]}

    data: Any = [{"pixels": torch.ones(4), "labels": 0}] * 2
    settings: dict[str, Any] = {"remove_unused_columns": False, "data_collator": collate}
    run(Detector(), data, tmp_path, **settings)
    with pytest.raises(HeadstartError, match=r"a list of dict.*object detection"):
        run(Detector(), data, tmp_path, teachers=Detector(), **settings)


def test_a_step_of_ones_own_that_passes_all_by_is_refused(tmp_path: Path) -> None:
    class Deaf(DistillTrainer):
        def training_step(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Tensor:
            loss: Tensor = model(**inputs).loss
            self.accelerator.backward(loss)
            return loss.detach()

    with pytest.raises(HeadstartError, match=r"Deaf does not reach DistillTrainer.compute_loss"):
        run(model("classifier"), rows("classifier", 2), tmp_path, trainer=Deaf, teachers=model("classifier", seed=5))
