"""What teachers are given of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

from headstart.adapters.teacher_inputs import DecoderInputs, only_for_teachers
from tests.adapters.tiny_models import model, seq2seq

LABELS = torch.tensor([[5, 6, 7, -100], [8, 9, -100, -100]])


class Boxed(nn.Module):
    def forward(self, input_ids: Tensor, boxes: Tensor, labels: Tensor | None = None, **others: Any) -> Tensor:
        raise AssertionError("is not reached")


def test_arguments_that_only_a_teacher_names() -> None:
    assert only_for_teachers(model("classifier"), [Boxed(), model("classifier")]) == {"boxes"}
    assert only_for_teachers(Boxed(), [Boxed()]) == set()


@pytest.mark.parametrize("kind", ["bart", "t5", "m2m100"])
def test_decoder_inputs_are_those_that_the_student_makes(kind: str) -> None:
    student = seq2seq(kind)
    decoder = DecoderInputs(student)
    batch = {"input_ids": LABELS.clamp(min=1), "labels": LABELS}
    assert decoder.missing(batch)
    assert not decoder.missing({**batch, "decoder_input_ids": LABELS})
    with decoder.watched() as seen:
        student(**batch)
    assert [tuple(given.shape) for given in seen] == [(2, 4)]
    assert torch.equal(seen[0][:, 1], LABELS[:, 0])
    ahead = decoder.ahead(batch)
    assert (ahead is None) == (kind == "m2m100")
    assert ahead is None or torch.equal(ahead, seen[0])


def test_models_without_a_decoder_of_their_own_make_none() -> None:
    assert not DecoderInputs(model("llama")).missing({"labels": LABELS})
    assert not DecoderInputs(seq2seq("bart")).missing({"labels": LABELS[:, 0]})  # a class for each text
