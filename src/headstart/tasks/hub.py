"""Calls of libraries that fetch models from the Hub: quiet, patient for seconds only, their errors in a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_PATIENCE = 5.0  # seconds in which the Hub has to answer at all


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


@contextmanager
def from_hub(name: str | Path) -> Iterator[None]:
    """Read something that may lie on the Hub; where that does not answer, from the caches alone.

    Its clients ask five times and longer each time, file by file: without network that is most of a minute of silence.

    Args:
        name: A name on the Hub, or a folder of this machine, for which nothing is asked.

    Raises:
        ConnectionError: The Hub does not answer, and what is asked for is in no cache.

    Example:
        >>> with from_hub("."):
        ...     pass
    """
    if Path(name).expanduser().exists() or _answers():
        yield
        return
    settings = _settings()
    before = [module.HF_HUB_OFFLINE for module in settings]
    for module in settings:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    except Exception as error:
        raise ConnectionError(
            f"{settings[0].ENDPOINT} does not answer, and the cache has not all of {name}; see whether this machine "
            "has a network, or fetch it where there is one"
        ) from error
    finally:
        for module, was in zip(settings, before, strict=True):
            module.HF_HUB_OFFLINE = was


@cache
def _answers() -> bool:
    """Whether the Hub can be reached, or is not to be asked anyway; found out once."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # of the library that it happens to ask with
        return False
    return True


def _settings() -> list[Any]:
    """The modules in which the Hub's clients look whether they may ask it; the Hub's own first."""
    from huggingface_hub import constants

    datasets = sys.modules.get("datasets")
    return [constants, *([] if datasets is None else [datasets.config])]
