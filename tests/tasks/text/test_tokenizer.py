"""Tokenizers: trained ones repeat, others are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from headstart.errors import DataError
from headstart.tasks.text.tokenizer import SPECIAL, for_packing, read_tokenizer, train_wordpiece, wrap

TEXTS = [
    "The lowest of the low fell lower.",
    "Café widest, newest: wider and newer!",
    "low, new, wide — the newest 42",
] * 3


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    tokens: dict[str, int] = tokenizer.get_vocab()
    return sorted(tokens, key=tokens.__getitem__)


def test_special_tokens_come_first() -> None:
    trained = train_wordpiece(TEXTS, 100)
    assert vocabulary(trained)[:5] == list(SPECIAL) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert trained.get_vocab_size() <= 100


def test_the_same_text_gives_the_same_numbers() -> None:
    # Those of the library alone follow a hash table, which is another one at each training.
    first = train_wordpiece(TEXTS, 90).get_vocab()
    for _ in range(5):
        assert train_wordpiece(TEXTS, 90).get_vocab() == first


def test_all_characters_of_the_text_are_known() -> None:
    trained = train_wordpiece(TEXTS, 200)
    for text in TEXTS:
        assert "[UNK]" not in trained.encode(text).tokens


def test_rare_characters_make_a_word_unknown_where_there_is_no_room() -> None:
    trained = train_wordpiece(["aaa bbb aaa bbb z"] * 5, 9)  # room for two characters and their insides
    assert trained.get_vocab_size() <= 9
    assert trained.encode("ab z", add_special_tokens=False).tokens == ["a", "##b", "[UNK]"]


def test_pieces_join_to_the_words_of_the_text() -> None:
    trained = train_wordpiece(TEXTS, 100)
    encoded = trained.encode("The lowest, widest café", add_special_tokens=False)
    assert "".join(token.removeprefix("##") for token in encoded.tokens) == "thelowest,widestcafe"


def test_case_and_accents_may_be_kept() -> None:
    kept = set(vocabulary(train_wordpiece(TEXTS, 200, lowercase=False)))
    folded = set(vocabulary(train_wordpiece(TEXTS, 200)))
    assert {"T", "C", "##é"} <= kept
    assert not {"T", "C", "é", "##é"} & folded


def test_a_pair_is_encoded_as_berts() -> None:
    encoded = train_wordpiece(TEXTS, 200).encode("low", "new")
    assert encoded.tokens == ["[CLS]", "low", "[SEP]", "new", "[SEP]"]
    assert encoded.type_ids == [0, 0, 0, 1, 1]


def test_a_trained_tokenizer_is_read_back_by_transformers(tmp_path: Path) -> None:
    trained = wrap(train_wordpiece(TEXTS, 100))
    trained.save_pretrained(tmp_path)
    text = "The lowest [MASK] newest"
    for again in (read_tokenizer(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(text)["input_ids"] == trained(text)["input_ids"]
        assert again.mask_token_id == trained.mask_token_id == 4


def test_text_is_packed_whole_and_taken_as_text(tmp_path: Path) -> None:
    trained = wrap(train_wordpiece(TEXTS, 100))
    trained.backend_tokenizer.enable_truncation(4)
    trained.backend_tokenizer.enable_padding(length=50)
    packing = for_packing(trained)
    text = "the lowest [SEP] the newest"
    tokens = packing.encode(text, add_special_tokens=False).tokens
    assert "[SEP]" not in tokens
    assert tokens[0] == "the"
    assert tokens[-1] == "newest"
    assert len(trained.backend_tokenizer.encode(text)) == 50  # the tokenizer itself is left alone


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    plain = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    place = save(PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]"), tmp_path)
    with pytest.raises(
        DataError, match=r"data\.tokenizer: .* has no mask token, which masked-language modelling needs"
    ):
        read_tokenizer(place)


def test_a_tokenizer_without_separator_is_refused(tmp_path: Path) -> None:
    trained = train_wordpiece(TEXTS, 100)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[CLS]"}
    place = save(PreTrainedTokenizerFast(tokenizer_object=trained, **names), tmp_path)
    with pytest.raises(DataError, match="has no sep token"):
        read_tokenizer(place)


def test_a_place_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"data\.tokenizer: '{tmp_path}' cannot be read as a tokenizer"):
        read_tokenizer(str(tmp_path))
    with pytest.raises(DataError, match=r"'owner/no-such-tokenizer' cannot be read as a tokenizer"):
        read_tokenizer("owner/no-such-tokenizer")
