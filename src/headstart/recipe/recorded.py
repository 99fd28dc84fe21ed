"""The record of a finished run read through today's recipe: its settings, and its steps by today's kinds."""

from __future__ import annotations

from collections.abc import Mapping

from headstart.errors import HeadstartError
from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import count_steps
from headstart.records import RunRecord


def recorded_recipe(record: RunRecord) -> Recipe | None:
    """What a run trained; None where today's recipes have no such settings, or another program wrote the record."""
    try:
        return parse_recipe(record.settings, "the settings of a finished run")
    except HeadstartError:
        return None


def names_today(record: RunRecord) -> dict[str, str]:
    """Today's name of each kind of step, by the one it has: a record says how many there are of each, in order.

    Returns:
        Empty where the settings tell of other steps than those that were counted.
    """
    recipe = recorded_recipe(record)
    if recipe is None:
        return {}
    total = sum(record.steps.values())
    begin = record.opened.begin(total) if record.opened is not None else 0
    end = record.stopped.end if record.stopped is not None else None
    now = count_steps(recipe, total, begin=begin, end=end)
    return dict(zip(record.steps, now, strict=True)) if list(now.values()) == list(record.steps.values()) else {}


def steps_today(record: RunRecord) -> dict[str, int]:
    """The steps of a run by today's names of their kinds, by which a race times them."""
    names = names_today(record)
    return {names.get(kind, kind): count for kind, count in record.steps.items()}


def samples_seen(record: RunRecord) -> int | None:
    """How many samples a run's training saw, as its record tells; None where it does not."""
    train = record.settings.get("train", {})
    size = train.get("batch_size") if isinstance(train, Mapping) else None
    return sum(record.steps.values()) * size if record.steps and isinstance(size, int) else None
