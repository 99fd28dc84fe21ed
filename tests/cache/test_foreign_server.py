"""Servers' answers: the token that they name at each place has to be the text's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.cache.foreign import read_told
from headstart.errors import TeacherError
from tests.cache.test_foreign import TOLD, changed, token_of

TOKENS = TOLD["input_ids"]


def moved_entries(record: Any, choice: Any) -> None:
    """As of a server that put a token of its own before the text, whose tokens somebody then wrote down."""
    entries = choice["prompt_logprobs"]
    choice["prompt_logprobs"] = [None, entries[1], *entries[1:-1]]


def moved_names(record: Any, choice: Any) -> None:
    logprobs = choice["logprobs"]
    logprobs["tokens"] = [logprobs["tokens"][0], *logprobs["tokens"][:-1]]


def names_by_text(record: Any, choice: Any) -> None:
    choice["logprobs"]["tokens"][3] = " w0"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vllm.jsonl", moved_entries, rf"token 2 is {TOKENS[2]}, and the server lists 39, .* as vLLM always does"),
        ("openai.jsonl", moved_names, rf"token 1 is {TOKENS[1]}, and the server names 'token_id:{TOKENS[0]}' there"),
        ("openai.jsonl", names_by_text, rf"token 3 is {TOKENS[3]}, and the server names ' w0' there"),
        (
            "vllm.jsonl",
            lambda record, _: record.update(input_ids=[*TOKENS[:4], 1, *TOKENS[5:]]),
            r"input_ids \(9 tokens\) are not the server's own prompt_token_ids \(9\), from token 4 on",
        ),
        (
            "vllm.jsonl",
            lambda record, choice: (record.update(input_ids=TOKENS), choice["prompt_token_ids"].insert(0, 1)),
            r"prompt_token_ids \(10\), from token 0 on; .*add_special_tokens=false",
        ),
    ],
)
def test_tokens_that_are_not_the_texts_are_refused(name: str, change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=message):
        list(read_told(changed(tmp_path, name, change), token_of))


def test_a_text_that_several_tokens_have_tells_nothing(tmp_path: Path) -> None:
    def change(record: Any, choice: Any) -> None:
        choice["logprobs"]["tokens"][3] = "\ufffd"

    assert next(read_told(changed(tmp_path, "openai.jsonl", change), token_of)).tokens == TOKENS
