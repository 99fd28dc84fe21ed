"""What servers answer about a prompt's tokens: vLLM's `prompt_logprobs`, and OpenAI's `logprobs` with `echo`.

In both an entry is of the token where it stands, and so of the place before. Both also name the token that stood there:
vLLM's entry always lists it, OpenAI's form has it in `logprobs.tokens`. That it is the text's token is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from headstart.errors import TeacherError

TokenOf = Callable[[str], int | None]  # from a token's text to its number; None: unknown, or several have that text


class _Form(NamedTuple):
    """A server's form.

    Attributes:
        entries: For each token of the prompt nothing, or a mapping to log-probabilities.
        number_of: From a key of such a mapping to a token.
        named: The prompt's own tokens as the server names them, where it does so beside the entries.
    """

    entries: Sequence[Mapping[str, Any] | None]
    number_of: TokenOf
    named: Sequence[str] | None


def following_of_server(
    choice: Mapping[str, Any], tokens: Sequence[int] | None, where: str, token_of: TokenOf
) -> list[tuple[list[int], list[float]]]:
    """What an answer tells of each place but the last: classes and their log-probabilities.

    Args:
        choice: The answer's first choice.
        tokens: The sequence, where the record holds it.
        where: File and record, for messages.
        token_of: Finds a token by its text.

    Raises:
        TeacherError: It tells nothing of the prompt, or of one of its tokens, or is of other tokens than these.
    """
    form = _form(choice, where, token_of)
    following = [_entry(entry, place, where, form.number_of) for place, entry in enumerate(form.entries) if place]
    if tokens is not None and len(tokens) == len(form.entries):  # else their number is what is wrong, and is said later
        _check_tokens(form, following, tokens, where)
    return following


def check_same_tokens(given: Sequence[int] | None, prompt: Sequence[int] | None, where: str) -> None:
    """Refuse a record whose sequence is not the one that the server says it was given.

    Raises:
        TeacherError: Says where they differ.
    """
    if given is None or prompt is None or list(given) == list(prompt):
        return
    pairs = enumerate(zip(given, prompt, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), min(len(given), len(prompt)))
    raise TeacherError(
        f"{where}: its input_ids ({len(given)} tokens) are not the server's own prompt_token_ids ({len(prompt)}), from "
        f"token {place} on; the server was given another text, or put a token of its own in (add_special_tokens=false "
        "keeps vLLM from it)"
    )


def _form(choice: Mapping[str, Any], where: str, token_of: TokenOf) -> _Form:
    entries = choice.get("prompt_logprobs")
    if entries is not None:
        return _Form(entries, _of_number, None)
    logprobs = choice.get("logprobs") or {}
    if logprobs.get("top_logprobs") is None:
        raise TeacherError(
            f"{where}: the answer has neither prompt_logprobs nor logprobs.top_logprobs; ask for those of the prompt "
            "(vLLM: prompt_logprobs=k; OpenAI's completions: echo=true, logprobs=k)"
        )
    return _Form(logprobs["top_logprobs"], lambda key: _of_text(key, token_of), logprobs.get("tokens"))


def _entry(
    entry: Mapping[str, Any] | None, place: int, where: str, number_of: TokenOf
) -> tuple[list[int], list[float]]:
    if not entry:
        raise TeacherError(f"{where}: there is nothing of token {place}; all tokens but the first need a target")
    found: dict[int, float] = {}
    for key, value in entry.items():
        number = number_of(str(key))
        if number is None:
            raise TeacherError(
                f"{where}: token {place}: {key!r} is the text of no token, or of several; have the server give their "
                "numbers (vLLM: return_tokens_as_token_ids=true)"
            )
        found[number] = float(value["logprob"] if isinstance(value, Mapping) else value)
    return list(found), list(found.values())


def _check_tokens(
    form: _Form, following: Sequence[tuple[list[int], list[float]]], tokens: Sequence[int], where: str
) -> None:
    for place, told in _foreign_tokens(form, following, tokens):
        raise TeacherError(
            f"{where}: token {place} is {tokens[place]}, and the server {told} there; the answer is of another text, "
            "or its entries stand at other places than their tokens"
        )


def _foreign_tokens(
    form: _Form, following: Sequence[tuple[list[int], list[float]]], tokens: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """The places whose token is not the text's, and what the server says instead."""
    if form.named is not None:
        for place, (name, token) in enumerate(zip(form.named, tokens, strict=False)):
            number = form.number_of(name)
            if number is not None and number != token:  # a text that several tokens have tells nothing
                yield place, f"names {name!r}"
    elif form.number_of is _of_number:
        for place, (listed, _) in enumerate(following, start=1):
            if tokens[place] not in listed:
                yield place, f"lists {', '.join(map(str, listed[:4]))}, ... and not that one, as vLLM always does,"


def _of_number(key: str) -> int | None:
    return int(key) if key.isdecimal() else None


def _of_text(key: str, token_of: TokenOf) -> int | None:
    name, colon, number = key.partition(":")
    return int(number) if colon and name == "token_id" and number.isdecimal() else token_of(key)
