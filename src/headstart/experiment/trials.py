"""The trials of a recipe's race: which settings each arm tries, and which it is then raced with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from headstart.config import settings_told
from headstart.errors import RaceError, RecipeError
from headstart.experiment.arms import arm_recipe, race_section, run_recipe
from headstart.recipe.load import varied
from headstart.recipe.recipe import MlmRecipe, Recipe
from headstart.records import Trial

_LONGEST_NAME = 200  # file systems stop at 255 bytes


@dataclass(frozen=True)
class PlannedTrial:
    """A short run with settings that an arm may be raced with.

    Attributes:
        arm: Whose they are.
        values: The settings, by dotted key.
        seed: Of the run.
        recipe: What it trains: the arm at the budget to tune at, judged on the samples set aside to tune by.
    """

    arm: str
    values: Mapping[str, Any]
    seed: int
    recipe: Recipe

    @property
    def told(self) -> str:
        """The trial in words."""
        return f"{self.arm}, {settings_told(self.values)}, seed {self.seed}"

    @property
    def part(self) -> str:
        """Its folder inside the race folder."""
        values = ",".join(f"{key}={json.dumps(value)}" for key, value in self.values.items())
        name = f"{quote(self.arm, safe='')}-{quote(values, safe='=,')}"
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 20]}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
        return f"tuning/{name}-s{self.seed}"


def planned_trials(recipe: Recipe) -> list[PlannedTrial]:
    """The trials of all arms that have something to choose, the baseline's first.

    Raises:
        RecipeError: A value does not fit, or no samples are set aside to tune by.
    """
    section = race_section(recipe)
    arms = sorted(section.arms, key=lambda name: name != section.baseline)
    return [
        PlannedTrial(arm, values, seed, _trial_recipe(recipe, arm, values, seed))
        for arm in arms
        if len(section.settings_to_try(arm)) > 1
        for values in section.settings_to_try(arm)
        for seed in section.tune_seeds
    ]


def chosen_settings(
    recipe: Recipe, arms: Iterable[str], trials: Iterable[Trial], *, higher_is_better: bool = True
) -> dict[str, dict[str, Any]]:
    """The settings of each arm that is tuned: those of the best mean quality over the seeds, of equals the first.

    Args:
        recipe: With a `race` section.
        arms: Those that choose.
        trials: Finished ones; those of other settings than the recipe's do not count.
        higher_is_better: The direction of their metric.

    Returns:
        By arm, and dotted key. Settings with which training diverged are not chosen.

    Raises:
        RaceError: Training diverged with all settings of an arm.
    """
    section, done = race_section(recipe), list(trials)
    found = {}
    for arm in arms:
        settings = section.settings_to_try(arm)
        if len(settings) > 1:
            of_arm = [trial for trial in done if trial.arm == arm]
            found[arm] = _best(arm, settings, of_arm, higher_is_better=higher_is_better)
        elif settings[0]:
            found[arm] = settings[0]
    return found


def tuned_recipe(recipe: Recipe, chosen: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with the chosen settings among what its arms set, and nothing left to choose for them."""
    section = race_section(recipe)
    arms = {
        name: arm.model_copy(update={"set": {**arm.set, **chosen[name]}}) if name in chosen else arm
        for name, arm in section.arms.items()
    }
    return recipe.model_copy(update={"race": section.model_copy(update={"arms": arms})})


def _trial_recipe(recipe: Recipe, arm: str, values: Mapping[str, Any], seed: int) -> Recipe:
    if not getattr(recipe.data, "tuning", 0):
        raise RecipeError(
            "race.tune: settings are chosen by training samples that nobody trains on and no race is judged by; set "
            "data.tuning to the number to set aside, a tenth of them say"
        )
    section = race_section(recipe)
    short = run_recipe(arm_recipe(recipe, arm), section.trial_budget, seed)
    changes = {**values, "data.evaluate": "tuning", "train.trackers": []}
    if isinstance(recipe, MlmRecipe):
        changes["glue"] = None  # whose development sets are what a race is judged by
    return varied(short, changes, f"race.tune, arm {arm}")


def _best(
    arm: str, settings: Sequence[dict[str, Any]], trials: Sequence[Trial], *, higher_is_better: bool
) -> dict[str, Any]:
    sign = 1.0 if higher_is_better else -1.0
    scores = []
    for values in settings:
        qualities = [trial.quality for trial in trials if trial.values == values]
        known = [sign * quality for quality in qualities if quality is not None]
        if known and len(known) == len(qualities):
            scores.append((sum(known) / len(known), values))
    if not scores:
        raise RaceError(
            f"race.tune: training diverged with each of the {len(settings)} settings of arm {arm!r}; give lower "
            "learning rates to choose from, a longer train.warmup or train.clip_norm"
        )
    return max(scores, key=lambda score: score[0])[1]  # of equals the first
