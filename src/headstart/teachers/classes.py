"""Which of a teacher's outputs are the student's: by the names of classes, or by tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.errors import TeacherError
from headstart.tasks.hub import from_hub, one_line
from headstart.teachers.find import Found
from headstart.teachers.loaded import Loaded

if TYPE_CHECKING:
    from headstart.tasks.text.vocabulary import Vocabulary

_LANGUAGE_MODELS = ("mlm", "causal-lm", "seq2seq")
_READERS = ("text-classification", "token-classification", "question-answering", "multiple-choice")


def shared_vocabulary(found: Found, loaded: Loaded, tokenizer: Any, *, name: str) -> int | None:
    """Check that a teacher that reads text has the student's tokenizer.

    Args:
        found: What the teacher's spec led to.
        loaded: The teacher.
        tokenizer: The student's, with the form of the `tokenizers` library.
        name: The teacher's, for messages.

    Returns:
        The number of tokens; a language model's vocabulary may be padded beyond it. None where its logits are no
        tokens', as those of a classifier.

    Raises:
        TeacherError: The teacher reads no text, has no tokenizer beside it, or another one.
    """
    from headstart.tasks.text.vocabulary import check_same_vocabulary

    if loaded.task not in (*_LANGUAGE_MODELS, *_READERS):
        raise TeacherError(
            f"teacher {name!r} is not known to read text ({type(loaded.module).__name__}), so that it has no tokenizer "
            "to compare; take a language model, or a classifier of texts or tokens, as the student is"
        )
    student = _vocabulary(tokenizer, "the student's tokenizer")
    if found.description.get("vocabulary") != student.describe():
        check_same_vocabulary(student, _teachers_vocabulary(loaded, name), name)
    return student.size if loaded.task in _LANGUAGE_MODELS else None


def _vocabulary(tokenizer: Any, origin: str) -> Vocabulary:
    from headstart.tasks.text.vocabulary import read_vocabulary

    if not hasattr(tokenizer, "backend_tokenizer"):
        raise TeacherError(
            f"{origin} is a {type(tokenizer).__name__}, which has no form of the `tokenizers` library, so vocabularies "
            "cannot be compared; give one with a tokenizer.json"
        )
    return read_vocabulary(tokenizer, origin, needed=())


def _teachers_vocabulary(loaded: Loaded, name: str) -> Vocabulary:
    from transformers import AutoTokenizer

    place = str(loaded.tokenizer)
    try:
        # Where there are no files of a tokenizer, transformers may make one up, without ordinary tokens.
        with from_hub(place):
            tokenizer = AutoTokenizer.from_pretrained(
                place, revision=loaded.revision or "main", trust_remote_code=False
            )
        return _vocabulary(tokenizer, f"the tokenizer of teacher {name!r}")
    except TeacherError:
        raise
    except Exception as error:  # the Hub's client raises errors of many libraries
        raise TeacherError(
            f"teacher {name!r}: {place} holds no tokenizer that can be read ({one_line(error)}), so its vocabulary "
            "cannot be compared with the student's; write it there: tokenizer.save_pretrained(folder)"
        ) from None
