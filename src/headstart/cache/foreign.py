"""Files of log-probabilities that other programs write, read as one form: a sequence and what comes after each place.

Known forms of a record, a row of a parquet file or a line of a JSONL file:

    ours          input_ids, token_ids [places][k], logprobs [places][k]; places: all but the last, or all
    axolotl's     input_ids, target_token_ids [tokens][k], target_logprobs [tokens][k], target_mask [tokens][k]
    DistillKit's  input_ids, bytepacked_indices and compressed_logprobs [tokens - 1][bytes], its settings in the folder
    vLLM's        choices[0].prompt_logprobs: for each token null or {token: {logprob}}
    OpenAI's      choices[0].logprobs.top_logprobs: for each token null or {text, or token_id:N: logprob}

Of the last two an entry is of the token where it stands, and so of the place before; of axolotl's in files whose mask
leaves out the first token, and of the next one where it leaves out the last. A record may say which sample it is
(`sample`, or a batch's `custom_id`), and that all classes that it does not list have no probability (`complete: true`);
a server's answer may lie in `response`, or there in `body`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from headstart.cache.distillkit import Compression, following_of, read_compression
from headstart.cache.foreign_server import TokenOf, check_same_tokens, following_of_server
from headstart.errors import TeacherError

__all__ = ["TokenOf", "Told", "read_told"]

_Following = list[tuple[Sequence[int], Sequence[float]]]


@dataclass(frozen=True)
class Told:
    """What a record tells of a sequence.

    Attributes:
        where: File and record, for messages.
        sample: Which of the training text it is, where the record says so.
        tokens: The sequence, where the record holds it.
        following: For each place but the last the classes, and their log-probabilities.
        complete: Whether the record says (`complete: true`) that all other classes have no probability.
    """

    where: str
    sample: int | None
    tokens: Sequence[int] | None
    following: Sequence[tuple[Sequence[int], Sequence[float]]]
    complete: bool = False


def read_told(path: str | Path, token_of: TokenOf) -> Iterator[Told]:
    """Read a file, `.parquet` or `.jsonl`.

    Args:
        path: The file.
        token_of: Finds a token by its text, for servers that give no numbers.

    Raises:
        TeacherError: It cannot be read, or is of no known form.
    """
    path = Path(path)
    settings = cache(lambda: read_compression(path.parent))
    for number, record in enumerate(_records(path)):
        where = f"{path}, record {number}"
        try:
            yield _told(record, where, token_of, settings)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise TeacherError(f"{where}: not as its form has it ({type(error).__name__}: {error})") from None


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            for batch in parquet.ParquetFile(path).iter_batches(256):
                yield from batch.to_pylist()
        elif path.suffix in (".jsonl", ".json"):
            with open(path, encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.strip())
        else:
            raise TeacherError(f"{path}: targets are read from .parquet and .jsonl files")
    except (OSError, ValueError) as error:  # Arrow's errors and those of JSON are ValueErrors
        raise TeacherError(f"{path}: cannot be read ({error})") from None


def _told(record: Mapping[str, Any], where: str, token_of: TokenOf, settings: Callable[[], Compression]) -> Told:
    if "packed_indices" in record:
        raise TeacherError(
            f"{where}: packed_indices is DistillKit's older compressed form, of logits whose settings are in no file; "
            "decompress it there (LogprobCompressor), and write columns input_ids, token_ids and logprobs"
        )
    answer = _answer(record)
    following: Sequence[tuple[Sequence[int], Sequence[float]]]
    tokens = _tokens(record, answer, where)
    length = None if tokens is None else len(tokens)
    if "target_logprobs" in record:
        following = _of_axolotl(record, where)
    elif "compressed_logprobs" in record:
        following = following_of(record, settings())
    elif "token_ids" in record:
        following = [*zip(record["token_ids"], record["logprobs"], strict=True)]
        following = following[:-1] if len(following) == length else following
    elif answer.get("choices"):
        following = following_of_server(answer["choices"][0], tokens, where, token_of)
    else:
        raise TeacherError(f"{where}: no known form, with {', '.join(record) or 'nothing'}; docs/cache.md lists them")
    return Told(where, _sample(record), tokens, following, complete=record.get("complete") is True)


def _tokens(record: Mapping[str, Any], answer: Mapping[str, Any], where: str) -> list[int] | None:
    """The sequence, from the record or from the server, which have to agree."""
    choice = (answer.get("choices") or [{}])[0]
    prompt = answer.get("prompt_token_ids")
    prompt = choice.get("prompt_token_ids") if prompt is None else prompt
    given = record.get("input_ids")
    check_same_tokens(given, prompt, where)
    tokens = prompt if given is None else given
    return None if tokens is None else [int(token) for token in tokens]


def _answer(record: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = record.get("response") or record
    return answer.get("body") or answer


def _sample(record: Mapping[str, Any]) -> int | None:
    given = record.get("sample", record.get("custom_id"))
    return None if given is None else int(given)


def _of_axolotl(record: Mapping[str, Any], where: str) -> _Following:
    """An entry for each token. Which it is of is told by the one that the mask leaves out: the first, or the last."""
    entries = [*zip(record["target_token_ids"], record["target_logprobs"], strict=True)]
    kept = [all(mask) if isinstance(mask, list) else bool(mask) for mask in record.get("target_mask") or []]
    if len(kept) != len(entries) or len(kept) < 2 or kept[0] == kept[-1]:
        raise TeacherError(
            f"{where}: target_mask has to leave out the first token, where an entry is of the token at its place, or "
            "the last, where it is of the next one; else nobody can see of which it is"
        )
    wanted = slice(1, None) if kept[-1] else slice(None, -1)
    if not all(kept[wanted]):
        raise TeacherError(
            f"{where}: token {kept.index(False, 1 if kept[-1] else 0)} is masked, and so has no target; all tokens but "
            "one need one"
        )
    return entries[wanted]
