"""Classes that student and teacher name in their configurations."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from transformers import BertForTokenClassification

from headstart.adapters.class_names import names_of, share_class_names
from headstart.distill import Teacher
from headstart.errors import TeacherError
from tests.adapters.by_hand import OPEN, TEMPERATURE, run, stacked
from tests.adapters.test_model_head import bert
from tests.adapters.test_trainer_heads import drawn
from tests.adapters.tiny_models import model

NLI = ["contradiction", "neutral", "entailment"]
OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def named(names: list[str], seed: int = 0, kind: Any = None) -> Any:
    made = bert(*([kind] if kind else []), num_labels=len(names), **OFF)
    made.config.id2label = dict(enumerate(names))
    return drawn(made, seed)


def divergence(student: Tensor, teacher: Tensor) -> float:
    own, other = ((side / TEMPERATURE).log_softmax(-1) for side in (student, teacher))
    return (TEMPERATURE**2 * (other.exp() * (other - own)).sum(-1).mean()).item()


@pytest.mark.parametrize("theirs", [["ENTAILMENT", "Neutral", "contradiction"], ["other", *NLI[::-1]]])
def test_the_teachers_order_is_the_students(theirs: list[str], tmp_path: Path) -> None:
    student, teacher = named(NLI), named(theirs, seed=5)
    before, data = (
        copy.deepcopy(student),
        [{"input_ids": torch.tensor([1, 2, 3 + index]), "labels": torch.tensor(index)} for index in range(3)],
    )
    ids = stacked(data)["input_ids"]
    expected = divergence(before(ids).logits, teacher(ids).logits[:, -3:].flip(-1))
    trainer = run(student, data, tmp_path, teachers=teacher, distill=OPEN)
    assert trainer.distiller.last.distill_loss == pytest.approx(expected, rel=1e-4)


def test_tags_of_tokens_too() -> None:
    tags = ["O", "B-PER", "I-PER"]
    teacher = Teacher(named(["B-PER", "I-PER", "O"], kind=BertForTokenClassification))
    share_class_names(named(tags, kind=BertForTokenClassification), [teacher], maps=False)
    assert teacher.classes == (2, 0, 1)


def test_names_that_tell_nothing_leave_a_teacher_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    unnamed, told = Teacher(bert(num_labels=3)), Teacher(named(NLI[::-1]), classes=[0, 1, 2])
    share_class_names(named(NLI), [unnamed, told, Teacher(named(NLI))], maps=False)
    share_class_names(bert(num_labels=3), [Teacher(named(NLI))], maps=False)
    assert unnamed.classes is None and told.classes == (0, 1, 2) and not caplog.records
    assert names_of(model("gpt2")) is None  # whose configuration names two classes that it does not have


def test_names_that_match_in_part_are_refused_and_strangers_get_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TeacherError, match="some are the same, in another order"):
        share_class_names(named(NLI), [Teacher(named(["entailment", "neutral", "not"]))], maps=False)
    share_class_names(named(NLI), [Teacher(named(["a", "b", "c"]))], maps=False)
    assert "whose names do not match" in caplog.text


def test_maps_in_another_order_are_refused() -> None:
    with pytest.raises(TeacherError, match="of maps they have to stand in the same order"):
        share_class_names(named(NLI), [Teacher(named(NLI[::-1]))], maps=True)
