"""What is installed only with an extra: a missing package is named, with the line that brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headstart.errors import HeadstartError


@contextmanager
def recipes_extra() -> Iterator[None]:
    """Around imports of what only recipes need: accelerate, datasets, pyarrow, pillow.

    Raises:
        HeadstartError: One is not installed; says how to install it.

    Example:
        >>> with recipes_extra():
        ...     import no_such_package
        Traceback (most recent call last):
        ...
        headstart.errors.HeadstartError: recipes need no_such_package, ...; pip install 'headstart[recipes]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise HeadstartError(
            f"recipes need {error.name}, which is not installed; pip install 'headstart[recipes]'"
        ) from None
