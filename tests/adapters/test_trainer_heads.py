"""The Trainer's models whose rows are no classes, or lie elsewhere than in the last dimension."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from transformers import BertForQuestionAnswering, SegformerConfig, SegformerForSemanticSegmentation

from headstart.adapters.trainer import DistillTrainer
from headstart.errors import HeadstartError
from tests.adapters.by_hand import TEMPERATURE, WEIGHT, moved, run, stacked
from tests.adapters.loops import trainer_arguments
from tests.adapters.test_model_head import bert

OPEN = {"stop": 1.0, "weight": WEIGHT, "temperature": TEMPERATURE}


def drawn(made: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made.eval()


def texts(labels: list[Any]) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(9, (5,), generator=generator), "labels": torch.tensor(of)} for of in labels]


def binary(student: Tensor, teacher: Tensor) -> Tensor:
    """T^2 times the divergence of each label's tempered sigmoid, the mean over all labels."""
    p, q = (side.double() / TEMPERATURE for side in (teacher, student))
    yes = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(q))
    no = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-q))
    return (TEMPERATURE**2 * (yes + no)).mean()


KINDS: dict[str, tuple[dict[str, Any], list[Any], str, Any]] = {
    "labels": ({"num_labels": 3}, [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], "kl", binary),
    "values": ({"num_labels": 1}, [0.5, 2.0, -1.0, 0.0], "mse", F.mse_loss),
}


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_loss_by_hand(kind: str, pieces: int, tmp_path: Path) -> None:
    """Of micro-batches the sum, as these models' own loss is the mean of each and the Trainer divides by nothing."""
    options, labels, loss, distance = KINDS[kind]
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    student, teacher = (drawn(bert(**options, **off), seed) for seed in (0, 5))
    data = texts(labels)
    before = copy.deepcopy(student)

    class InOrder(DistillTrainer):
        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(data)

    expected = [torch.zeros_like(parameter) for parameter in student.parameters()]
    for start in range(0, 4, 4 // pieces):
        batch = stacked(data[start : start + 4 // pieces])
        outputs = before(**batch)
        other = teacher(batch["input_ids"]).logits.detach()
        both = (1 - WEIGHT) * outputs.loss + WEIGHT * distance(outputs.logits, other)
        gradients = torch.autograd.grad(both, list(before.parameters()))
        expected = [total + part for total, part in zip(expected, gradients, strict=True)]
    size: dict[str, Any] = {"per_device_train_batch_size": 4 // pieces, "gradient_accumulation_steps": pieces}
    run(student, data, tmp_path, trainer=InOrder, teachers=teacher, distill={**OPEN, "loss": loss}, **size)
    torch.testing.assert_close(moved(before, student), tuple(expected), rtol=1e-4, atol=1e-5)


def test_a_loss_that_means_nothing_for_the_head_is_refused_before_training(tmp_path: Path) -> None:
    student, teacher = bert(num_labels=1), bert(num_labels=1)
    with pytest.raises(HeadstartError, match=r"loss='kl' means nothing for head='values'.*set loss to one of mse"):
        DistillTrainer(student, trainer_arguments(tmp_path), teachers=teacher)


def test_the_user_knows_better(tmp_path: Path) -> None:
    student, teacher = (drawn(bert(num_labels=1), seed) for seed in (0, 5))
    options = {**OPEN, "head": "labels", "loss": "kl"}
    trainer = run(student, texts([1.0, 0.0]), tmp_path, teachers=teacher, distill=options)
    assert trainer.distiller.last.distill_loss > 0


def segformer(seed: int) -> Any:
    sizes: dict[str, Any] = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [4, 8]}
    sizes |= {"patch_sizes": [3, 3], "strides": [2, 2], "num_attention_heads": [1, 2], "mlp_ratios": [1, 1]}
    off: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0}
    off |= {"classifier_dropout_prob": 0.0}
    sizes |= {"num_labels": 3, "decoder_hidden_size": 8}
    return drawn(SegformerForSemanticSegmentation(SegformerConfig(**sizes, **off)), seed)


@pytest.mark.parametrize("pieces", [1, 2])
def test_maps_of_classes_are_distilled_pixel_by_pixel_at_the_size_of_the_logits(pieces: int, tmp_path: Path) -> None:
    """Its own loss is the mean over pixels of a micro-batch at the size of the labels, which are more."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    labels = torch.randint(3, (4, 16, 16), generator=generator)
    labels[:, :, :8] = 255  # without a class
    data = [{"pixel_values": image, "labels": of} for image, of in zip(images, labels, strict=True)]

    class InOrder(DistillTrainer):
        def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(data)

    last = images[-(4 // pieces) :]
    logits = [net(last).logits.detach() for net in (segformer(0).train(), segformer(5))]
    own, other = ((part / TEMPERATURE).log_softmax(1) for part in logits)
    values = TEMPERATURE**2 * (other.exp() * (other - own)).sum(1)
    size: dict[str, Any] = {"per_device_train_batch_size": 4 // pieces, "gradient_accumulation_steps": pieces}
    trainer = run(segformer(0), data, tmp_path, trainer=InOrder, teachers=segformer(5), distill=OPEN, **size)
    assert trainer.distiller.last.distill_loss == pytest.approx(values[:, :, 4:].mean().item(), rel=1e-4)


def test_an_answers_start_and_end_are_averaged(tmp_path: Path) -> None:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    student, teacher = (drawn(bert(BertForQuestionAnswering, **off), seed) for seed in (0, 5))
    data = [
        {"input_ids": row["input_ids"], "start_positions": torch.tensor(1), "end_positions": row["labels"]}
        for row in texts([2, 3, 4, 9])  # the last one lies outside
    ]
    before = copy.deepcopy(student)
    batch = stacked(data)
    outputs, other = before(**batch), teacher(batch["input_ids"])
    distill: Any = 0.0
    for name in ("start_logits", "end_logits"):
        own, theirs = ((side[name] / TEMPERATURE).log_softmax(-1) for side in (outputs, other))
        distill += TEMPERATURE**2 * F.kl_div(own, theirs.detach(), log_target=True, reduction="batchmean") / 2
    both = (1 - WEIGHT) * outputs.loss + WEIGHT * distill
    run(student, data, tmp_path, teachers=teacher, distill=OPEN)
    expected = torch.autograd.grad(both, list(before.parameters()))
    torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)
