"""Settings of the documentation's site, which `make docs` builds with Sphinx."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

import headstart

project = "headstart"
version = release = headstart.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
default_role = "literal"  # single backticks in docstrings are code, as in Markdown

# Links. What is not there fails the build: a file, a heading, a page of the table of contents, a name of ours.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!headstart\.).*"),  # other libraries' names: the build asks no other site
    ("py:.*", r"headstart\.(distill\.targets\.sparse\..*|race\.definition\.Earlier)"),  # inner
    ("py:.*", r"headstart\.(.*\._.*|cache\.formats\..*|tasks\.glue\.(data|results)\..*)"),  # inner
    ("py:.*", r"headstart\.records\.R"),  # a type variable
]
myst_heading_anchors = 3

# The reference.
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_use_ivar = True

# The look. Nothing comes from the net, so that the site works from a folder too.
html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Have figures shown without their source, and by autodoc what it does not show by itself."""
    app.connect("source-read", _without_sources)
    app.connect("include-read", _without_sources)
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", _describe_fields, priority=900)  # after it
    app.connect("autodoc-process-signature", _annotations_as_written)


def _without_sources(app: Sphinx, *names_and_text: Any) -> None:
    """Take out the comments behind figures: nobody sees them, but the space before them."""
    text: list[str] = names_and_text[-1]
    text[0] = re.sub(r" <!-- [\w.-]+: [^>]+ -->", "", text[0])


def _keep_colons(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep the text before an attribute's first colon, which napoleon would take for its type."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # an empty comment, without a colon


def _describe_fields(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Add what a record's `Field(description=...)` say; settings have docstrings there, which autodoc reads itself."""
    if _is_model(what, thing) and not thing.model_config.get("use_attribute_docstrings"):
        fields = thing.model_fields.items()
        lines += ["", *(f":ivar {field}: {info.description}" for field, info in fields if info.description), ""]


def _annotations_as_written(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show a model's fields with the types that its source names; pydantic's signature spells out all their limits."""
    if not _is_model(what, thing):
        return signature, returns
    written = {
        field: text for kind in reversed(thing.__mro__) for field, text in vars(kind).get("__annotations__", {}).items()
    }
    defaults = {
        field: "" if info.is_required() else f" = {info.default!r}" for field, info in thing.model_fields.items()
    }
    return f"(*, {', '.join(f'{field}: {written[field]}{default}' for field, default in defaults.items())})", None


def _is_model(what: str, thing: Any) -> bool:
    return what == "class" and issubclass(thing, BaseModel)
