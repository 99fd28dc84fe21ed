"""Which settings the arms of a race try, and which they choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.errors import RaceError, RecipeError
from headstart.experiment.arms import arm_recipe
from headstart.experiment.trials import chosen_settings, planned_trials, tuned_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import Trial
from tests.tiny import RACE, racing

LR = {"train.lr": [0.05, 0.2]}


def tuned(data: Path, /, race: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    return racing(data, **{"race": {**RACE, "tune": LR, **(race or {})}, "data__tuning": 24, **changes})


def trial(arm: str, lr: float, quality: float | None, seed: int = 1000) -> Trial:
    return Trial(arm=arm, values={"train.lr": lr}, seed=seed, quality=quality)


def test_each_arm_tries_each_value_at_the_smallest_budget_the_baseline_first(tiny_data: Path) -> None:
    race = {"primary": "baseline", "baseline": "distill", "tune_seeds": [7, 8]}
    planned = planned_trials(tuned(tiny_data, race))
    assert [(one.arm, one.values["train.lr"], one.seed) for one in planned] == [
        (arm, lr, seed) for arm in ("distill", "baseline") for lr in (0.05, 0.2) for seed in (7, 8)
    ]
    for one in planned:
        train, data = one.recipe.train, one.recipe.data.model_dump()
        assert (train.steps, train.lr, train.seed) == (4, one.values["train.lr"], one.seed)
        assert (data["evaluate"], data["tuning"]) == ("tuning", 24)
        assert (one.recipe.distill is None) == (one.arm == "baseline")
    assert len({one.part for one in planned}) == 8
    assert planned[0].part == "tuning/distill-train.lr=0.05-s7"


def test_they_can_be_tried_at_another_budget(tiny_data: Path) -> None:
    planned = planned_trials(tuned(tiny_data, {"tune_budget": 6}))
    assert len(planned) == 4 and {one.recipe.train.steps for one in planned} == {6}
    with pytest.raises(RecipeError, match=r"tune_budget: .*0 trains nothing"):
        tuned(tiny_data, {"tune_budget": 0})


def test_several_keys_are_a_grid_and_an_arm_may_have_lists_of_its_own(tiny_data: Path) -> None:
    arms = {
        "baseline": {"set": {"distill": None}, "tune": {"train.weight_decay": [0.0, 1e-3]}},
        "distill": {"tune": {"train": {"lr": [0.3, 0.4]}, "distill.weight": [0.5]}},
    }
    planned = planned_trials(tuned(tiny_data, {"arms": arms}))
    values = {arm: [one.values for one in planned if one.arm == arm] for arm in arms}
    assert values["baseline"] == [
        {"train.lr": lr, "train.weight_decay": decay} for lr in (0.05, 0.2) for decay in (0.0, 1e-3)
    ]
    assert values["distill"] == [{"train.lr": lr, "distill.weight": 0.5} for lr in (0.3, 0.4)]


def test_a_single_value_is_given_and_not_tried(tiny_data: Path) -> None:
    recipe = tuned(tiny_data, {"tune": {"train.lr": [0.3]}})
    assert planned_trials(recipe) == []
    chosen = chosen_settings(recipe, ["baseline", "distill"], [])
    assert chosen == {"baseline": {"train.lr": 0.3}, "distill": {"train.lr": 0.3}}
    assert arm_recipe(tuned_recipe(recipe, chosen), "distill").train.lr == 0.3


def test_the_best_mean_is_chosen_in_the_direction_of_the_metric(tiny_data: Path) -> None:
    recipe = tuned(tiny_data, {"tune_seeds": [7, 8]})
    trials = [trial("baseline", lr, quality, seed) for lr, pair in ((0.05, (0.9, 0.1)), (0.2, (0.6, 0.6)))
              for seed, quality in zip((7, 8), pair, strict=True)]  # fmt: skip
    assert chosen_settings(recipe, ["baseline"], trials) == {"baseline": {"train.lr": 0.2}}
    assert chosen_settings(recipe, ["baseline"], trials, higher_is_better=False) == {"baseline": {"train.lr": 0.05}}
    equal = [trial("baseline", 0.2, 0.5), trial("baseline", 0.05, 0.5)]
    assert chosen_settings(recipe, ["baseline"], equal) == {"baseline": {"train.lr": 0.05}}


def test_what_diverged_with_one_seed_is_not_chosen(tiny_data: Path) -> None:
    recipe = tuned(tiny_data)
    trials = [trial("baseline", 0.05, 0.1), trial("baseline", 0.2, 0.9), trial("baseline", 0.2, None, seed=1001)]
    assert chosen_settings(recipe, ["baseline"], trials) == {"baseline": {"train.lr": 0.05}}
    with pytest.raises(RaceError, match="diverged with each of the 2 settings of arm 'baseline'; give lower learning"):
        chosen_settings(recipe, ["baseline"], [trial("baseline", 0.05, None), trial("baseline", 0.2, None)])


def test_long_settings_have_folders_that_file_systems_take(tiny_data: Path) -> None:
    many = {f"train.{key}": [0.1, 0.2] for key in ("lr", "weight_decay", "momentum", "warmup", "label_smoothing")}
    names = {one.part.removeprefix("tuning/") for one in planned_trials(tuned(tiny_data, {"tune": many}))}
    assert len(names) == 64 and max(map(len, names)) < 255


@pytest.mark.parametrize(
    ("race", "message"),
    [
        ({"tune": {"train.lr": []}}, r"race.tune: train.lr: the list is empty"),
        ({"tune": {"train.lr": [0.1, 0.1]}}, r"race.tune: train.lr: 0.1 is there twice"),
        ({"tune": {"train.lr": 0.1}}, r"race.tune.train.lr: Input should be a list; write \[0.1\]"),
        ({"tune": {"train.seed": [1, 2]}}, r"train.seed is the same for all that is compared and cannot be tuned"),
        ({"tune": {"train.lrr": [1, 2]}}, r"race.tune, arm baseline: train.lrr: unknown key; did you mean 'lr'\?"),
        ({"tune": {"train.lr": [0.1, -1]}}, r"race.tune, arm baseline: train.lr: Input should be greater than 0"),
        ({"tune_seeds": [0]}, r"tune_seeds: 0 is a seed of the race too"),
        (
            {"arms": {"baseline": {"set": {"distill": None}}, "distill": {"set": {"train.lr": 1}}}},
            r"arms.distill.set: train.lr is tuned too; write the value as arms.distill.tune: \{train.lr: \[1\]\}",
        ),
        (
            {"arms": {"baseline": {"set": {"distill": None}}, "distill": {"tune": {"train.lr": [0.1, 0.2, 0.4]}}}},
            r"tune: baseline has 2 settings to choose from and distill 3; the baseline is tuned at least as hard",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused(race: dict[str, Any], message: str, tiny_data: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        planned_trials(tuned(tiny_data, race))


def test_samples_to_tune_by_have_to_be_set_aside(tiny_data: Path) -> None:
    with pytest.raises(RecipeError, match=r"race.tune: settings are chosen by training samples.*set data.tuning"):
        planned_trials(tuned(tiny_data, data__tuning=0))
