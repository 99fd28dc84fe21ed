"""The Trainer's distillation loss goes with the model's own loss: its rows, and what it is divided by."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from transformers import BartConfig, BartForCausalLM, GPT2LMHeadModel, LlamaForCausalLM

from headstart.adapters.trainer import DistillTrainer
from tests.adapters.by_hand import OPEN, gradient_by_hand, moved, run, stacked
from tests.adapters.tiny_models import TOKENS, VOCABULARY, model, rows


class Storyteller(LlamaForCausalLM):
    """Called as its author liked."""


class Novelist(GPT2LMHeadModel):
    """So, too."""


def named(kind: str, like: type[nn.Module], *, seed: int) -> Any:
    made = model(kind, seed=seed)
    made.__class__ = like
    return made


def bart_decoder(seed: int) -> Any:
    """Takes labels as they are, though it is called `ForCausalLM`."""
    torch.manual_seed(seed)
    off: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    sizes: dict[str, Any] = {"d_model": 8, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8}
    made = BartForCausalLM(BartConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **sizes, **off))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("make", "shifted"),
    [
        (lambda seed: named("llama", Storyteller, seed=seed), True),
        (lambda seed: named("gpt2", Novelist, seed=seed), True),
        (bart_decoder, False),
    ],
    ids=["llama", "gpt2", "bart"],
)
def test_the_rows_of_the_task_loss_are_distilled(make: Any, shifted: bool, smoothing: float, tmp_path: Path) -> None:
    """A smoothed loss is the Trainer's, which goes by names; right or wrong, its rows are the other ones here."""
    student, teacher, data = make(0), make(5), rows("llama", 4)
    batch = stacked(data)
    labels = batch.pop("labels")
    with torch.no_grad():
        own, other = (F.log_softmax(net.eval()(**batch).logits / 2.0, -1) for net in (student, teacher))
    values = 4.0 * F.kl_div(own, other, log_target=True, reduction="none").sum(-1)
    shifted = shifted != bool(smoothing)
    expected = values[:, :-1][labels[:, 1:] != -100] if shifted else values[labels != -100]
    trainer = run(student, data, tmp_path, teachers=teacher, distill=OPEN, label_smoothing_factor=smoothing)
    assert trainer.distiller.last.distill_loss == pytest.approx(expected.mean().item(), rel=1e-4)


class InOrder(DistillTrainer):
    """Without shuffling, so that micro-batches are known."""

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bert", "classifier"])
def test_a_model_that_ignores_num_items_in_batch_is_found_out(kind: str, tmp_path: Path) -> None:
    """Each micro-batch has its own mean, and nobody divides by their number: the stock Trainer's step, distilled."""
    student, teacher, data = model(kind), model(kind, seed=5), rows(kind, 4)
    before = copy.deepcopy(student)
    halves = [gradient_by_hand(student, teacher.eval(), stacked(data[i : i + 2]), causal=False) for i in (0, 2)]
    size: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(student, data, tmp_path, trainer=InOrder, teachers=teacher, distill=OPEN, **size)
    expected = tuple(first + second for first, second in zip(*halves, strict=True))
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)


def test_a_smoothed_loss_is_read_too(tmp_path: Path) -> None:
    """The stock Trainer divides it by the labels of the whole step."""
    student, teacher, data = model("modernbert"), model("modernbert", seed=5), rows("modernbert", 4)
    once, twice = copy.deepcopy(student), copy.deepcopy(student)
    given: dict[str, Any] = {"teachers": teacher, "distill": OPEN, "label_smoothing_factor": 0.1}
    run(once, data, tmp_path, **given)
    run(twice, data, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, **given)
    torch.testing.assert_close(moved(student, twice), moved(student, once), rtol=1e-4, atol=1e-5)


def test_a_loss_that_does_not_tell_is_spoken_of(tmp_path: Path) -> None:
    def flat(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return outputs.logits.square().mean()  # type: ignore[no-any-return]

    size: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    given: dict[str, Any] = {"teachers": model("classifier", seed=5), "distill": OPEN, "compute_loss_func": flat}
    with pytest.warns(UserWarning, match=r"`num_items_in_batch` does not show in it.*loss_is_scaled_for_ga"):
        run(model("classifier"), rows("classifier", 4), tmp_path, **given, **size)
