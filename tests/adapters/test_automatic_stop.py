"""A window that closes, or opens, by itself, in every loop: at the same step, also after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="needs lightning: pip install headstart[lightning]")

from transformers import BertForQuestionAnswering

from headstart.adapters.trainer import DistillTrainer
from headstart.errors import HeadstartError
from tests.adapters import loops
from tests.adapters.loops import LOOPS, Training, Weights, plain, trainer_arguments
from tests.adapters.test_model_head import bert
from tests.adapters.tiny_models import model, rows

AUTO = {"stop": "auto", "cap": 1.0, "warmup": 0.0}


WAITING = {"open_at": 2.0, "stop": 1.0}


@pytest.fixture(scope="module", params=[AUTO, WAITING], ids=["stops", "opens"])
def by_itself(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Weights]]:
    """Weights of a loop in which random teachers are let go, after the middle, or asked only from the tenth step on.

    All loops are made as long as that takes.
    """
    folder, options = tmp_path_factory.mktemp("by_itself"), request.param
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"EPOCHS": 20, "STEPS": 60, "STOPPED": 18}.items():
            patch.setattr(loops, name, value)
        weights, throughout = plain(Training(folder, options)), plain(Training(folder, {"stop": 1.0}))
        assert max((throughout[name] - weights[name]).abs().max() for name in weights) > 1e-3  # it did, by itself
        yield options, weights


@pytest.mark.parametrize("loop", LOOPS)
def test_every_loop_does_so_at_the_same_step_stopped_in_the_middle_or_not(
    loop: str, by_itself: tuple[Any, Weights], tmp_path: Path
) -> None:
    options, weights = by_itself
    training = Training(tmp_path, options)
    whole = LOOPS[loop](training)
    torch.testing.assert_close(whole, weights, rtol=0, atol=1e-6)
    LOOPS[loop](training, stop=True)
    torch.testing.assert_close(LOOPS[loop](training, resume=True), whole, rtol=0, atol=0)


@pytest.mark.parametrize(("options", "warmup"), [({}, 0.3), ({"warmup": 0.05}, 0.05)])
def test_the_trainer_knows_its_warmup(options: dict[str, Any], warmup: float, tmp_path: Path) -> None:
    """Nothing is decided before it is over, whatever the teacher; the option says otherwise."""
    arguments = trainer_arguments(
        tmp_path, max_steps=80, warmup_steps=24, per_device_train_batch_size=8, gradient_accumulation_steps=1
    )
    trainer = DistillTrainer(
        model("classifier"),
        arguments,
        train_dataset=rows("classifier", 8),
        teachers=model("classifier", seed=5),
        distill={"stop": "auto", "cap": 1.0, **options},
    )
    trainer.train()
    assert trainer.distiller is not None
    stopped = trainer.distiller.stopped
    assert stopped is not None and stopped.step > max(20, warmup * 80)


def test_labels_of_several_heads_do_not_reach_it(tmp_path: Path) -> None:
    one = {"input_ids": torch.arange(1, 5), "start_positions": torch.tensor(1), "end_positions": torch.tensor(2)}
    student, teacher = bert(BertForQuestionAnswering), bert(BertForQuestionAnswering)
    arguments = trainer_arguments(tmp_path, max_steps=2)
    trainer = DistillTrainer(student, arguments, train_dataset=4 * [one], teachers=teacher, distill=AUTO)
    with pytest.raises(HeadstartError, match="stop='auto' compares student and teachers by the labels"):
        trainer.train()
