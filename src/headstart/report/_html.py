"""From templates to pages that need nothing beside them."""

from __future__ import annotations

from importlib import resources
from typing import Any


def render(template: str, **values: Any) -> str:
    """A page from one of the templates in this folder; every value is escaped, unless it is `markup`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(template).render(style=markup(_read("style.css")), **values)


def markup(text: str) -> Any:
    """Text that is HTML already, or CSS: it is not escaped."""
    from markupsafe import Markup

    return Markup(text)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
