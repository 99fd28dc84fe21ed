"""Teachers that look for a text's last token by the number of the padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")

from transformers import LlamaConfig, LlamaForSequenceClassification

from headstart import Distiller
from headstart.errors import TeacherError

PADDING = 3  # of the batch
SIZES: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
SIZES |= {"num_labels": 3}


def classifier(padding: int | None, *, seed: int) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=24, pad_token_id=padding, bos_token_id=1, eos_token_id=2, **SIZES)
    return LlamaForSequenceClassification(config)


def batch(side: str) -> dict[str, torch.Tensor]:
    """Two texts of different lengths; one ends in a token that means its end."""
    tokens, mask = torch.randint(4, 24, (2, 6)), torch.ones(2, 6, dtype=torch.int64)
    tokens[1, 2] = 2
    padded = slice(4, None) if side == "right" else slice(0, 2)
    tokens[0, padded], mask[0, padded] = PADDING, 0
    return {"input_ids": tokens, "attention_mask": mask}


def distill(teacher: Any, inputs: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """The distillation loss, and the student's logits."""
    logits = classifier(PADDING, seed=1).eval()(**inputs).logits
    distiller = Distiller(teacher, total_steps=4)
    distiller(F.cross_entropy(logits, torch.tensor([0, 2])), logits, inputs)
    assert distiller.last is not None
    return float(distiller.last.distill_loss), logits.detach()


@pytest.mark.parametrize("side", ["left", "right"])
def test_another_padding_than_the_batchs_is_refused(side: str) -> None:
    with pytest.raises(
        TeacherError, match=r"takes token 0 for padding, and the batch is padded with 3.*pad_token_id = 3"
    ):
        distill(classifier(0, seed=5), batch(side))


def test_set_to_the_batchs_each_text_is_judged_by_its_own_last_token() -> None:
    inputs, teacher = batch("right"), classifier(PADDING, seed=5)
    loss, logits = distill(teacher, inputs)
    target = torch.cat([teacher(inputs["input_ids"][row : row + 1, :end]).logits for row, end in ((0, 4), (1, 6))])
    p, q = F.log_softmax(target.detach() / 4, -1), F.log_softmax(logits / 4, -1)
    assert loss == pytest.approx(float(16 * (p.exp() * (p - q)).sum(-1).mean()), rel=1e-4)


def test_texts_of_one_length_and_texts_without_a_mask_need_no_padding() -> None:
    inputs = batch("right")
    inputs["attention_mask"][:] = 1
    distill(classifier(0, seed=5), inputs)
    del inputs["attention_mask"]
    distill(classifier(0, seed=5), inputs)
