"""Writes docs/recipes.md, the reference of all recipe keys, from the recipe model itself.

Usage: python tools/recipe_reference.py
"""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headstart.recipe.recipe import RECIPES, Recipe

PAGE = Path(__file__).parent.parent / "docs" / "recipes.md"

HEAD = """# Recipes

A recipe is one YAML file: model, data, training, distillation and race. It is data and never code. An unknown key or a
wrong type is refused before anything starts, with the file, the line and the nearest valid name. Any value can be
changed on the command line:

    headstart train recipes/fashion-mnist.yaml train.lr=0.1 distill.stop=0.3 --out runs/two

`null` switches off what can be switched off (`distill=null`). A short recipe to begin with is
[`recipes/demo.yaml`](../recipes/demo.yaml); [text.md](text.md#recipes) and
[causal-lm.md](causal-lm.md#recipes) list those for language models,
[imagenet.md](imagenet.md#the-recipes) those for ImageNet.

This page is written by `tools/recipe_reference.py` from the recipe model.
"""


def reference() -> str:
    """The whole page."""
    lines = [HEAD, *_section("", Recipe, "The top level")]
    for task, recipe in RECIPES.items():
        lines += [f"## `task: {task}`", "", (recipe.__doc__ or "").strip(), ""]
        for name in ("model", "data"):
            lines += _section(name, next(filter(_is_model, _parts(recipe.model_fields[name].annotation))), level=3)
        for name, field in recipe.model_fields.items():
            if name not in Recipe.model_fields:
                inner = next(filter(_is_model, _parts(field.annotation)))
                lines += _section(name, inner, about=_text(field), level=3)
    return "\n".join(lines)


def _section(path: str, model: type[BaseModel], title: str = "", about: str = "", level: int = 2) -> list[str]:
    about = about or inspect.cleandoc(model.__doc__ or "").partition("\n\nExample:")[0]  # of Python, not of YAML
    lines = [f"{'#' * level} {title or f'`{path}`'}", "", about, ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    below: list[str] = []
    for name, field in ((field.alias or name, field) for name, field in model.model_fields.items()):
        lines.append(f"| `{name}` | {_type(field)} | {_default(field)} | {_text(field)} |")
        inner = next((part for part in _parts(field.annotation) if _is_model(part)), None)
        if inner is not None and inner.model_fields:  # the base of all sections tells nothing: each task has its own
            below += _section(f"{path}.{name}" if path else name, inner, level=level)
    return [*lines, "", *below]


def _parts(annotation: Any) -> list[Any]:
    return [annotation, *(inner for part in get_args(annotation) for inner in _parts(part))]


def _is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


def _type(field: FieldInfo) -> str:
    limits = [f"{sign} {value:g}" for sign, value in _limits(field.metadata)]
    return _name(field.annotation) + (f" ({', '.join(limits)})" if limits else "")


def _limits(metadata: list[Any]) -> list[tuple[str, float]]:
    kinds: tuple[tuple[type, str, str], ...] = (
        (annotated_types.Ge, "ge", "≥"),
        (annotated_types.Gt, "gt", ">"),
        (annotated_types.Le, "le", "≤"),
        (annotated_types.Lt, "lt", "<"),
    )
    return [(sign, getattr(item, name)) for item in metadata for kind, name, sign in kinds if isinstance(item, kind)]


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _name(part) for part in arguments)
    if hasattr(annotation, "__metadata__"):
        return _name(arguments[0])
    if _is_model(annotation):
        return "section"
    if origin is not None:
        inside = ", ".join(_name(part) for part in arguments)
        return f"{origin.__name__} of {inside}" if origin in (list, tuple) else "mapping"
    return "anything" if annotation is Any else str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    return "null" if value is None else f"`{value}`" if value != "" else "empty"


def _text(field: FieldInfo) -> str:
    return (field.description or "").replace("\n", " ").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(f"wrote {PAGE}")
