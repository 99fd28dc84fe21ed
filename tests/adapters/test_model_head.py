"""Which of a model's outputs are logits, what a row of them means, and what has none to distil."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

import transformers
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from headstart.adapters.model_head import (
    are_maps,
    check_labels,
    check_model,
    head_options,
    logits_of,
    loss_in,
    small_maps,
)
from headstart.errors import HeadstartError
from tests.adapters.tiny_models import model

LOGITS = torch.zeros(1, 3)
FLOATS, CLASSES = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)


def bert(kind: Any = BertForSequenceClassification, **options: Any) -> Any:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return kind(BertConfig(vocab_size=9, intermediate_size=8, **sizes, **options))


class Renamed(BertForSequenceClassification):
    """A class of one's own, made from one of transformers."""


@pytest.mark.parametrize(
    ("student", "labels", "expected"),
    [
        (bert(num_labels=1), None, {"head": "values"}),
        (bert(num_labels=3, problem_type="regression"), None, {"head": "values"}),
        (bert(num_labels=3, problem_type="multi_label_classification"), CLASSES, {"head": "labels"}),
        (bert(num_labels=3, problem_type="single_label_classification"), None, {"head": "classes"}),
        (bert(Renamed, num_labels=1), None, {"head": "values"}),
        (bert(num_labels=3), None, {}),
        (bert(num_labels=3), FLOATS, {"head": "labels"}),
        (bert(num_labels=3), CLASSES, {"head": "classes"}),
        (bert(BertForTokenClassification, num_labels=1), FLOATS, {}),
        (model("llama"), CLASSES, {}),
        (nn.Linear(2, 1), FLOATS, {}),
    ],
)
def test_what_a_model_tells_of_its_head(student: nn.Module, labels: Tensor | None, expected: Any) -> None:
    assert head_options(student, labels) == expected


@pytest.mark.parametrize(
    "name",
    [
        "YolosForObjectDetection",
        "DetrForSegmentation",
        "Mask2FormerForUniversalSegmentation",
        "Wav2Vec2ForCTC",
        "ViTMAEForPreTraining",
        "ElectraForPreTraining",
        "ViTForMaskedImageModeling",
        "DPTForDepthEstimation",
        "TapasForQuestionAnswering",
    ],
)
def test_models_that_have_nothing_to_distil_are_named(name: str) -> None:
    assert hasattr(transformers, name)
    kind = type(name, (nn.Module,), {"__module__": "transformers.models"})
    with pytest.raises(HeadstartError, match=f"{name} cannot be distilled: .*What can be: classes"):
        check_model(type("Mine", (kind,), {})())


def test_names_of_ones_own_are_only_names() -> None:
    check_model(type("GPTForPreTraining", (nn.Module,), {})())
    for kind in ("classifier", "gpt2", "modernbert"):
        check_model(model(kind))


def test_segmentation_has_its_classes_second() -> None:
    kind = type("UperNetForSemanticSegmentation", (nn.Module,), {"__module__": "transformers.models"})
    assert head_options(kind()) == {"head": "classes", "class_dim": 1}


def test_where_the_logits_are() -> None:
    assert logits_of({"loss": 1.0, "logits": LOGITS}, after_loss=True) is LOGITS
    assert logits_of(SimpleNamespace(logits=LOGITS), after_loss=False) is LOGITS
    assert logits_of(LOGITS, after_loss=False) is LOGITS
    assert logits_of((1.0, LOGITS), after_loss=True) is LOGITS
    assert logits_of((LOGITS, LOGITS + 1), after_loss=False) is LOGITS


@pytest.mark.parametrize("outputs", [{"loss": 1.0, "logits": (LOGITS, LOGITS)}, (1.0,), None])
def test_outputs_without_logits(outputs: Any) -> None:
    assert logits_of(outputs, after_loss=True) is None


def test_where_the_loss_is() -> None:
    loss = torch.ones(())
    assert loss_in({"loss": loss, "logits": LOGITS}) is loss
    assert loss_in(SimpleNamespace(loss=loss)) is loss
    assert loss_in((loss, LOGITS)) is loss
    assert all(loss_in(outputs) is None for outputs in ({"logits": LOGITS}, (LOGITS, LOGITS), LOGITS))


def test_labels_that_are_no_tensor() -> None:
    check_labels(torch.zeros(2))
    with pytest.raises(HeadstartError, match="a list of dict, one for each sample, as object detection has them"):
        check_labels([{"boxes": torch.zeros(1, 4)}])


def test_maps_of_labels_are_taken_at_the_nearest_pixel() -> None:
    labels = torch.arange(16).view(1, 4, 4)
    labels[0, 0, 0] = 255
    logits = torch.zeros(1, 5, 2, 2)
    assert are_maps(labels, logits)
    assert small_maps(labels, logits).tolist() == [[[-100, 2], [8, 10]]]
    assert not are_maps(labels, torch.zeros(1, 4, 4, 5))
    assert not are_maps(torch.zeros(1, 4), torch.zeros(1, 4, 5))
