"""Vocabularies: the same by content, and where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from headstart.errors import DataError, TeacherError
from headstart.tasks.text.tokenizer import read_tokenizer, wrap
from headstart.tasks.text.vocabulary import check_same_vocabulary, first_difference, read_vocabulary
from tests.tasks.text.tiny import SPECIAL, TOKENS, tokenizer


def changed(**parts: Any) -> PreTrainedTokenizerFast:
    """The tokenizer with parts of its file replaced."""
    content = json.loads(tokenizer().backend_tokenizer.to_str())
    return wrap(Tokenizer.from_str(json.dumps(content | parts)))


def normalizer(**settings: Any) -> dict[str, Any]:
    return {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
        **settings,
    }


def swapped() -> tuple[str, ...]:
    tokens = list(TOKENS)
    tokens[41], tokens[42] = tokens[42], tokens[41]
    return tuple(tokens)


def test_tells_special_tokens_from_the_others() -> None:
    found = read_vocabulary(tokenizer())
    assert found.size == len(TOKENS)
    assert dict(found.special) == {"mask": 4, "pad": 0, "cls": 2, "sep": 3}
    assert list(found.ordinary) == list(range(len(SPECIAL), len(TOKENS)))


def test_a_token_added_later_counts() -> None:
    longer = tokenizer()
    longer.add_tokens([AddedToken("zebra")])
    found = read_vocabulary(longer)
    assert found.size == len(TOKENS) + 1 and found.ordinary[-1] == len(TOKENS)


def test_a_saved_tokenizer_is_the_same_under_another_name(tmp_path: Path) -> None:
    first = tokenizer()
    first.save_pretrained(tmp_path / "other name")
    here, there = read_vocabulary(first), read_vocabulary(read_tokenizer(str(tmp_path / "other name")))
    assert here.fingerprint == there.fingerprint
    check_same_vocabulary(here, there, "old")


@pytest.mark.parametrize(
    "parts",
    [
        {"truncation": {"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0}},
        {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}},
    ],
    ids=["truncation", "decoder"],
)
def test_settings_that_change_no_token_do_not_matter(parts: dict[str, Any]) -> None:
    assert first_difference(read_vocabulary(tokenizer()), read_vocabulary(changed(**parts))) is None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: tokenizer(swapped()), 'token 41 is "L" there and "K" here'),
        (lambda: tokenizer(TOKENS[:-1]), f'token {len(TOKENS) - 1} is missing there and "the" here'),
        (lambda: tokenizer((*TOKENS, "zebra")), f'token {len(TOKENS)} is "zebra" there and missing here'),
        (lambda: changed(normalizer=normalizer()), "normalizer is {.*} there and null here"),
        (lambda: changed(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer is .*Whitespace.* there and null here"),
    ],
    ids=["order", "fewer", "more", "normalizer", "pre-tokenizer"],
)
def test_a_teacher_with_another_tokenizer_is_refused_with_the_reason(other: Any, reason: str) -> None:
    here, there = read_vocabulary(tokenizer()), read_vocabulary(other())
    assert here.fingerprint != there.fingerprint
    with pytest.raises(TeacherError, match=rf"teacher 'old' was trained with another tokenizer .*\({reason}\)"):
        check_same_vocabulary(here, there, "old")


def test_a_difference_is_told_down_to_the_setting() -> None:
    here = read_vocabulary(changed(normalizer=normalizer()))
    there = read_vocabulary(changed(normalizer=normalizer(lowercase=False)))
    assert first_difference(here, there) == "normalizer lowercase is false there and true here"


def test_special_tokens_by_role_matter() -> None:
    there = tokenizer()
    there.pad_token = "[UNK]"
    assert (
        first_difference(read_vocabulary(tokenizer()), read_vocabulary(there))
        == "special token pad is 1 there and 0 here"
    )


@pytest.mark.parametrize("role", ["mask", "pad"])
def test_a_tokenizer_without_a_token_that_is_needed_is_refused(role: str) -> None:
    names = {"mask": "[MASK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]"}
    del names[role]
    bare = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer().backend_tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )
    with pytest.raises(DataError, match=f"mine has no {role} token, which masked-language modelling needs; take"):
        read_vocabulary(bare, "mine")


def test_a_tokenizer_of_special_tokens_only_is_refused() -> None:
    words = Tokenizer(WordLevel({token: number for number, token in enumerate(SPECIAL)}, unk_token="[UNK]"))
    with pytest.raises(DataError, match="special tokens only"):
        read_vocabulary(wrap(words))
