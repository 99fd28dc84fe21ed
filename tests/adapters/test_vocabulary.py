"""The tokens that models with differently padded vocabularies share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")

from transformers import LlamaConfig, LlamaForCausalLM

from headstart.adapters.vocabulary import share_tokens
from headstart.distill import Teacher
from headstart.distill.vocabulary import tokens_of
from headstart.errors import TeacherError
from tests.adapters.by_hand import OPEN, run, stacked
from tests.adapters.tiny_models import model, rows

SIZES: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def llama(tokens: int, *, seed: int = 0, eos: int = 2) -> Any:
    torch.manual_seed(seed)
    made = LlamaForCausalLM(LlamaConfig(vocab_size=tokens, bos_token_id=None, eos_token_id=eos, **SIZES))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made


class Tokenizer(dict[str, int]):
    """As many tokens as entries."""

    get_vocab = dict.copy


@pytest.mark.parametrize(("own", "other"), [(32, 24), (24, 32)])
def test_what_both_have_is_distilled(own: int, other: int, tmp_path: Path) -> None:
    student, teacher, data = llama(own), llama(other, seed=5), rows("llama", 4)
    batch = stacked(data)
    labels = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        logits = [net.eval()(**batch).logits[:, :-1, :24] / 2.0 for net in (student, teacher)]
    mine, theirs = (part.log_softmax(-1) for part in logits)
    expected = 4.0 * F.kl_div(mine, theirs, log_target=True, reduction="none").sum(-1)[labels != -100].mean()
    with pytest.warns(UserWarning, match=rf"logits for {other} tokens, the student for {own}; the first 24 are"):
        trainer = run(student, data, tmp_path, teachers=teacher, distill=OPEN)
    assert trainer.distiller.last.distill_loss == pytest.approx(expected.item(), rel=1e-4)


def test_no_more_than_the_tokenizer_has() -> None:
    teacher, tokenizer = Teacher(llama(24)), Tokenizer({f"w{number}": number for number in range(20)})
    with pytest.warns(UserWarning, match="the first 20"):
        assert share_tokens(llama(32), [teacher], tokenizer) == 20
    assert teacher.classes == 20


def test_a_tokenizer_that_leaves_numbers_out_needs_more_columns_than_it_has_tokens() -> None:
    """As loading a teacher with it counts them."""
    tokenizer = Tokenizer({**{f"w{number}": number for number in range(10)}, "<end>": 21})
    with pytest.warns(UserWarning, match="the first 22"):
        assert share_tokens(llama(32), [Teacher(llama(24))], tokenizer) == 22


def test_a_teacher_that_was_loaded_with_its_tokenizer_is_not_spoken_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert share_tokens(llama(32), [Teacher(llama(32), classes=20)], None) == 20


@pytest.mark.parametrize("teacher", [llama(25), llama(40, eos=7)], ids=["not a padded size", "another end of text"])
def test_other_tokenizers_are_refused_as_ever(teacher: Any, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="both need the same classes"):
        run(llama(24), rows("llama", 2), tmp_path, teachers=teacher, distill=OPEN)


def test_equal_sizes_and_other_heads_are_left_alone() -> None:
    assert share_tokens(llama(24), [Teacher(llama(24))], None) is None
    assert share_tokens(model("classifier"), [Teacher(llama(24))], None) is None
    assert tokens_of(nn.Linear(2, 3)) is None
