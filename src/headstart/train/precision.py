"""A recipe's `precision: auto` turned into what a run trains in, before anything is compared or recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml

from headstart.precision import Chosen, chosen_for, slow_bf16, why_auto
from headstart.recipe.recipe import Recipe
from headstart.train import ranks

logger = logging.getLogger(__name__)

_SECTIONS = ("train", "glue")
_told: set[str] = set()


def settled(recipe: Recipe, begun: str = "", where: object = "") -> Recipe:
    """The recipe with a precision in place of `auto`: that of what was begun before, else what suits the device.

    All processes of a run get the answer of the first, and have to call it together. An explicit bf16 on a device that
    computes it in software is warned of, with a factor measured there.

    Args:
        recipe: Its `train.precision` and `glue.precision` may be `auto`; a settled recipe stays as it is.
        begun: The text of the recipe that was begun, if one was: a run is not changed midway by another machine.
        where: Names what was begun, in messages.
    """
    device = torch.device(ranks.connect().device)
    if left := [name for name in _SECTIONS if _precision(recipe, name) == "auto"]:
        recipe = ranks.from_main(lambda: _with_precision(recipe, left, begun, device, where))
    if ranks.is_main():
        _tell(slow_bf16(recipe.train.precision, device))
    return recipe


def settled_in(recipe: Recipe, file: Path) -> Recipe:
    """As `settled`, for the recipe that a run folder may already hold in a file."""
    return settled(recipe, _text(file), file.parent)


def precision_told(asked: Recipe, recipe: Recipe) -> str:
    """A line for people: what a recipe trains in, and why where it was left to the device.

    Args:
        asked: As it was given.
        recipe: The same, settled.
    """
    chosen = recipe.train.precision
    if asked.train.precision != "auto":
        return f"precision {chosen}"
    device = torch.device(ranks.connect().device)
    if chosen != chosen_for("auto", device):
        return f"precision {chosen} (as this was begun)"
    return f"precision {chosen} (auto: {why_auto(device)})"


def _precision(recipe: Recipe, section: str) -> str | None:
    return getattr(getattr(recipe, section, None), "precision", None)


def _with_precision(recipe: Recipe, sections: Iterable[str], begun: str, device: torch.device, where: object) -> Recipe:
    before, here, update = _precisions(begun), chosen_for("auto", device), {}
    for name in sections:
        chosen = before.get(name, here)
        if chosen != here:
            _tell(
                f"{where}: began with {name}.precision={chosen} and goes on with it; on this machine auto would be "
                f"{here} ({why_auto(device)}). For that, give a new folder"
            )
        update[name] = getattr(recipe, name).model_copy(update={"precision": chosen})
    return recipe.model_copy(update=update)


def _precisions(text: str) -> dict[str, Chosen]:
    """What a recipe's text says of precision, by section. A text that is none is refused elsewhere, by name."""
    try:
        content = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return {}
    sections = {name: content.get(name) for name in _SECTIONS} if isinstance(content, dict) else {}
    said = {name: part.get("precision") for name, part in sections.items() if isinstance(part, dict)}
    return {name: value for name, value in said.items() if value in ("fp32", "bf16")}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _tell(sentence: str) -> None:
    """A warning, once in a process."""
    if sentence and sentence not in _told:
        _told.add(sentence)
        logger.warning(sentence)
