"""From a YAML file and overrides to a recipe, with errors that name file, line and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from headstart.errors import RecipeError
from headstart.recipe.automatic import as_override
from headstart.recipe.recipe import RECIPES, Recipe

Location = tuple[str | int, ...]

_SHOULD = "Input should be "


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: The YAML file. It is data: tags that would construct objects are refused.
        overrides: `key=value` with dotted keys and YAML values, for example `train.lr=0.2`, `distill=null`.

    Raises:
        RecipeError: The file cannot be read, is no YAML, or holds an unknown key or a value of the wrong type.
    """
    path = Path(path)
    node, content = _read_yaml(path)
    _refuse_duplicates(node, path)
    origins: dict[Location, str] = {}
    for override in overrides:
        key, value = _parse_override(override)
        set_key(content, key, as_override(content, value) if key == "distill" else value)
        origins[tuple(key.split("."))] = f"override {override!r}"
    return validate(content, lambda location: _place(location, origins, node, path))


def parse_recipe(content: Mapping[str, Any], where: str) -> Recipe:
    """Validate a recipe that is at hand as a mapping; `where` names its origin in messages.

    Raises:
        RecipeError: As `load_recipe`.

    Example:
        >>> parse_recipe({"data": {"name": "x"}, "train": {"epochs": 1, "wings": 2}}, "here")
        Traceback (most recent call last):
        ...
        headstart.errors.RecipeError: here: train.wings: unknown key
    """
    return validate(content, lambda location: where)


def varied(recipe: Recipe, overrides: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with some keys set anew.

    Args:
        recipe: The original; it is not changed.
        overrides: Values by dotted key.
        where: Names the origin of the overrides in messages.

    Raises:
        RecipeError: A key is unknown or a value does not fit.
    """
    content = recipe.model_dump(mode="json")
    for key, value in overrides.items():
        set_key(content, key, as_override(content, value) if key == "distill" else value)
    return parse_recipe(content, where)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every value spelled out."""
    return str(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def set_key(content: dict[str, Any], key: str, value: Any) -> None:
    """Set `content["a"]["b"]` for the key `a.b`, making mappings on the way (also where there was null).

    Example:
        >>> content = {"distill": None}
        >>> set_key(content, "distill.stop", 0.25); content
        {'distill': {'stop': 0.25}}
    """
    *parents, last = key.split(".")
    for parent in parents:
        below = content.get(parent)
        if not isinstance(below, dict):
            below = content[parent] = {}
        content = below
    content[last] = value


def validate(content: Mapping[str, Any], place: Callable[[Location], str]) -> Recipe:
    """Validate a mapping; `place` maps the location of an error to the words for it."""
    kind = _recipe_type(content, place)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = [{**problem, "loc": _within(content, problem["loc"])} for problem in error.errors()]
        lines = [_explain(problem, place, kind) for problem in _joined(problems)]
        raise RecipeError("\n".join(dict.fromkeys(lines))) from None


def _read_yaml(path: Path) -> tuple[yaml.Node, dict[str, Any]]:
    """The file's nodes, which know their lines, and its content."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{path}: the recipe cannot be read ({reason})") from None
    try:
        node, content = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist, say
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if node is None or not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values; see recipes/ for examples")
    return node, content


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r}: write key=value, for example train.lr=0.2")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise RecipeError(f"override {override!r}: the value is not valid YAML; quote it for the shell") from None


def _within(content: Any, location: Location) -> Location:
    """A location without what is below a plain value: there pydantic adds its names for the members of a union."""
    for depth, part in enumerate(location):
        if not isinstance(content, dict | list):
            return location[:depth]
        content = dict(enumerate(content) if isinstance(content, list) else content).get(part)
    return location


def _joined(problems: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the members of a union each ask for in one place, as one problem: any of them would do."""
    found: dict[Location, Mapping[str, Any]] = {}
    for problem in problems:
        place = problem["loc"]
        alternative = f"{found[place]['msg']} or {problem['msg'].removeprefix(_SHOULD)}" if place in found else ""
        found[place] = {**found[place], "msg": alternative} if alternative else problem
    return list(found.values())


def _recipe_type(content: Mapping[str, Any], place: Callable[[Location], str]) -> type[Recipe]:
    task = content.get("task", Recipe.model_fields["task"].default)
    if task not in RECIPES:
        nearest = difflib.get_close_matches(str(task), RECIPES, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there is {', '.join(RECIPES)}"
        raise RecipeError(f"{place(('task',))}: task: {task!r} is no task; {hint}")
    return RECIPES[task]


def _explain(problem: Mapping[str, Any], place: Callable[[Location], str], kind: type[Recipe]) -> str:
    location: Location = problem["loc"]
    key = ".".join(str(part) for part in location)
    where = f"{place(location)}: {key}" if key else f"{place(location)}"
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(location[-1]), _valid_names(location[:-1], kind), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return f"{where}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{where}: missing; this key is required"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    if problem["type"] == "list_type" and isinstance(given, str | int | float):
        return f"{where}: {_SHOULD}a list; write [{given}]"
    if problem["type"] in ("model_type", "dict_type") and (names := _valid_names(location, kind)):
        message = f"{_SHOULD}a mapping of keys such as {', '.join(names[:3])}"
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"{where}: {message}{shown}"


def _valid_names(location: Location, kind: type[Recipe]) -> list[str]:
    """The keys that a mapping at a location may have."""
    model: type[BaseModel] | None = kind
    entries = False  # whether the next part is the key of an entry, as in `race.arms.baseline`
    for part in location:
        if entries or model is None:
            entries = False
            continue
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        candidates = [annotation, *get_args(annotation)]
        model = next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
        entries = get_origin(annotation) in (dict, list)
    if model is None or entries:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _place(location: Location, origins: Mapping[Location, str], node: yaml.Node, path: Path) -> str:
    """The override that set the value at a location or made its key, else the file's line."""
    line, depth = _line(node, location)
    for key, origin in origins.items():
        sets_it = key == location[: len(key)]
        makes_it = location == key[: len(location)] and depth < len(location)
        if sets_it or makes_it:
            return origin
    return f"{path}:{line}"


def _line(node: yaml.Node, location: Location) -> tuple[int, int]:
    """The line of the deepest part of a location that the file holds, and how deep that is."""
    line = node.start_mark.line + 1
    for depth, part in enumerate(location):
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                return line, depth
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line, depth
    return line, len(location)


def _refuse_duplicates(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise RecipeError(f"{path}:{key.start_mark.line + 1}: {key.value}: this key stands twice; keep one")
            seen.add(key.value)
            _refuse_duplicates(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, path)
