"""Manners for calls of transformers and other libraries that fetch models from the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def one_line(error: Exception) -> str:
    """What another library's error says, short enough to quote: the Hub's client raises errors of many libraries.

    Example:
        >>> one_line(OSError("no such model;   check the name"))
        'OSError: no such model; check the name'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting new and unused weights, and from drawing bars.

    Use it where the report would be of what is as it should be, or becomes an error of ours.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
