"""Vocabularies: what the columns of masked-LM logits stand for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headstart.distill.vocabulary import count_tokens
from headstart.errors import DataError, TeacherError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = ("mask", "pad", "cls", "sep")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, and all that decides which of them a text becomes.

    Attributes:
        size: Columns of logits that stand for a token; a model may have more, as padding.
        special: Numbers of the special tokens by their role: mask, pad, cls, sep; only those that there are.
        ordinary: Numbers of the tokens that are not special, in increasing order.
        content: What two tokenizers have to share to be the same: tokens by number, special tokens, normaliser,
            pre-tokeniser, model.
    """

    size: int
    special: Mapping[str, int]
    ordinary: Sequence[int]
    content: Mapping[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal contents, whatever the tokenizers are called; 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.content).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Size and fingerprint; JSON."""
        return {"size": self.size, "fingerprint": self.fingerprint}


def read_vocabulary(
    tokenizer: PreTrainedTokenizerFast, origin: str = "the tokenizer", *, needed: Sequence[str] = _SPECIAL
) -> Vocabulary:
    """Take the vocabulary out of a tokenizer.

    Args:
        tokenizer: One with the form of the `tokenizers` library.
        origin: Where it is from, for messages.
        needed: Roles of special tokens that there must be; by default those of masked-language modelling.

    Raises:
        DataError: It lacks one of them, or has special tokens only.
    """
    for role in needed:
        if getattr(tokenizer, f"{role}_token_id") is None:
            raise DataError(
                f"{origin} has no {role} token, which masked-language modelling needs; take an encoder's tokenizer (of "
                "BERT, say), or train one on the corpus with data.tokenizer: wordpiece"
            )
    tokens = tokenizer.get_vocab()
    ordinary = sorted(set(tokens.values()) - set(tokenizer.all_special_ids))
    if not ordinary:
        raise DataError(f"{origin} has special tokens only; train it on more text")
    roles = {role: getattr(tokenizer, f"{role}_token_id") for role in _SPECIAL}
    special = {role: number for role, number in roles.items() if number is not None}
    size = count_tokens(tokenizer)
    assert size is not None
    return Vocabulary(size, special, ordinary, _content(tokenizer, tokens, special))


def first_difference(here: Vocabulary, there: Vocabulary) -> str | None:
    """Where two vocabularies first differ in content, in words; None where they are the same."""
    for key in here.content:
        for where, own, other in _differences(here.content[key], there.content[key], key):
            return f"{where} is {_shown(other)} there and {_shown(own)} here"
    return None


def check_same_vocabulary(student: Vocabulary, teacher: Vocabulary, name: str) -> None:
    """Refuse a teacher whose logits stand for other tokens than the student's, or who saw text cut in another way.

    Args:
        student: The student's vocabulary.
        teacher: The teacher's. Contents are compared, not names.
        name: The teacher's name, for the message.

    Raises:
        TeacherError: They differ; says where first.
    """
    if reason := first_difference(student, teacher):
        raise TeacherError(
            f"teacher {name!r} was trained with another tokenizer than the student ({reason}); both must share one: "
            "train the student with the teacher's, by data.tokenizer"
        )


def _content(
    tokenizer: PreTrainedTokenizerFast, tokens: Mapping[str, int], special: Mapping[str, int]
) -> dict[str, Any]:
    # Of the tokenizer as this version of the library writes it: older files lack settings that had one value then.
    written = json.loads(tokenizer.backend_tokenizer.to_str())
    model = {key: value for key, value in written["model"].items() if key != "dropout"}
    if isinstance(model["vocab"], dict):  # a list holds the scores of the tokens too
        del model["vocab"]
    return {
        "token": {number: token for token, number in sorted(tokens.items(), key=lambda item: item[1])},
        "special token": {role: special.get(role) for role in _SPECIAL},
        "normalizer": written["normalizer"],
        "pre_tokenizer": written["pre_tokenizer"],
        "model": model,
    }


_MISSING = object()


def _differences(here: Any, there: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the place, and what is there on either side."""
    if isinstance(here, list) and isinstance(there, list):
        here, there = dict(enumerate(here)), dict(enumerate(there))
    if not (isinstance(here, dict) and isinstance(there, dict)):
        if here != there:
            yield where, here, there
        return
    for key in [*here, *(key for key in there if key not in here)]:
        yield from _differences(here.get(key, _MISSING), there.get(key, _MISSING), f"{where} {key}")


def _shown(value: Any) -> str:
    return "missing" if value is _MISSING else json.dumps(value, ensure_ascii=False)
