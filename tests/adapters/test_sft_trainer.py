"""Before TRL's SFTTrainer, in each way that it computes its loss."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs trl")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from headstart.adapters.trainer import DistillTrainer
from tests.adapters.by_hand import OPEN, gradient_by_hand, moved
from tests.adapters.tiny_models import VOCABULARY, model

trl: Any = pytest.importorskip("trl")

pytestmark = [pytest.mark.filterwarnings("ignore")]  # TRL's own, of what it will remove


class Mine(DistillTrainer, trl.SFTTrainer):  # type: ignore[misc]
    """As the documentation has it."""


def tokenizer() -> Any:
    words = {word: index for index, word in enumerate(["<pad>", "<unk>", "<eos>"])}
    words |= {f"w{number}": number + 3 for number in range(VOCABULARY - 3)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>")


def text(start: int, count: int) -> str:
    return " ".join(f"w{(start + 5 * place) % (VOCABULARY - 3)}" for place in range(count))


TEXTS = [{"text": text(number, 5 + number % 3)} for number in range(4)]
ANSWERS = [{"prompt": text(number, 3), "completion": " " + text(3 * number, 2 + number)} for number in range(4)]


def trained(student: Any, folder: Path, rows: list[dict[str, str]], **options: Any) -> Any:
    """A Trainer after one step of SGD at rate 1 (a batch that it saw: `seen`)."""
    peft = options.pop("peft_config", None)
    settings = {"max_steps": 1, "per_device_train_batch_size": 4, "optim": "sgd", "learning_rate": 1.0}
    settings |= {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "use_cpu": True, "bf16": False}
    quiet: dict[str, Any] = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    trainer: Any = Mine(
        student,
        trl.SFTConfig(str(folder), **{**settings, **quiet, **options}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(),
        peft_config=peft,
        teachers=model("llama", seed=5),
        distill=OPEN,
    )
    trainer.seen = next(iter(trainer.get_train_dataloader()))
    trainer.before = copy.deepcopy(trainer.model)
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (TEXTS, {}),
        (ANSWERS, {}),
        (TEXTS, {"packing": True, "max_length": 16}),
        (ANSWERS, {"loss_type": "chunked_nll"}),
        (ANSWERS, {"gradient_checkpointing": True}),
    ],
    ids=["texts", "completions", "packed", "chunked", "checkpointed"],
)
def test_gradient_is_that_of_the_loss_by_hand(rows: Any, options: Any, tmp_path: Path) -> None:
    trainer = trained(model("llama"), tmp_path, rows, **options)
    batch = {**trainer.seen, "use_cache": False}
    expected = gradient_by_hand(model("llama"), model("llama", seed=5).eval(), batch, causal=True)
    torch.testing.assert_close(moved(trainer.before, trainer.model), expected, rtol=1e-4, atol=1e-5)


def test_the_step_does_not_depend_on_how_its_batch_is_cut(tmp_path: Path) -> None:
    whole = trained(model("llama"), tmp_path, ANSWERS)
    parts = trained(model("llama"), tmp_path, ANSWERS, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    torch.testing.assert_close(parts.model.state_dict(), whole.model.state_dict(), rtol=1e-4, atol=1e-5)


def by_hand(batch: Any) -> float:
    """The distillation loss of the first step."""
    batch = {**batch, "use_cache": False}
    labels = batch.pop("labels")[:, 1:]
    own, other = (model("llama", seed=seed).eval()(**batch).logits[:, :-1].detach() for seed in (0, 5))
    own, other = ((logits / OPEN["temperature"]).log_softmax(-1) for logits in (own, other))
    values = OPEN["temperature"] ** 2 * (other.exp() * (other - own)).sum(-1)
    return float(values[labels != -100].mean())


@pytest.mark.parametrize("options", [{"loss_type": "dft"}, {"label_smoothing_factor": 0.1}], ids=["dft", "smoothed"])
def test_other_losses_beside_it(options: Any, tmp_path: Path) -> None:
    trainer = trained(model("llama"), tmp_path, ANSWERS, **options)
    assert trainer.distiller.last.distill_loss == pytest.approx(by_hand(trainer.seen), rel=1e-4)


def test_adapters_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    adapter = peft.LoraConfig(r=2, target_modules=["q_proj"])
    trainer = trained(model("llama"), tmp_path, ANSWERS, peft_config=adapter)
    assert trainer.distiller.last.distill_loss == pytest.approx(by_hand(trainer.seen), rel=1e-4)
    assert any(change.abs().max() > 0 for change in moved(trainer.before, trainer.model))


def test_evaluation_is_trls_own(tmp_path: Path) -> None:
    trainer = trained(model("llama"), tmp_path, ANSWERS)
    assert trainer.evaluate(Dataset.from_list(ANSWERS))["eval_loss"] > 0
