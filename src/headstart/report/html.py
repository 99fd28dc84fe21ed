"""From the files in `templates/` to HTML pages that need nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError


def render(template: str, **values: Any) -> str:
    """A page from one of the files in templates; every value is escaped, unless it is `markup`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(template).render(style=markup(_read("style.css")), **values)


def markup(text: str) -> Any:
    """Text that is HTML already, or CSS: it is not escaped."""
    from markupsafe import Markup

    return Markup(text)


@contextmanager
def writing(page: Path) -> Iterator[None]:
    """Say what is to be done where the system refuses to write a page."""
    try:
        yield
    except OSError as error:
        raise HeadstartError(
            f"{page}: the report cannot be written ({error.strerror or error}); what was raced is kept. Make room "
            "there or make it writable, then draw it with headstart report"
        ) from None


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
