"""The page of all recipe keys says what the recipe model says."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from headstart.recipe.recipe import RECIPES, Recipe
from recipe_reference import PAGE, reference


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run python tools/recipe_reference.py"


def test_every_key_is_there_with_a_meaning() -> None:
    lines = reference().splitlines()
    recipes: list[type[Recipe]] = [Recipe, *RECIPES.values()]
    for model in (section for recipe in recipes for section in models(recipe)):
        for name, field in model.model_fields.items():
            if model in RECIPES.values():
                continue  # their keys are the base's
            assert field.description, f"{model.__name__}.{name} has no docstring"
            first = field.description.splitlines()[0].replace("|", "\\|")
            assert any(line.startswith(f"| `{field.alias or name}` |") and first in line for line in lines), name
