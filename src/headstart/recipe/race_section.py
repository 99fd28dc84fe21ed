"""The section of a recipe that `headstart race` reads."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt, field_validator, model_validator

from headstart.config import Config, Seed
from headstart.recipe.cycles import number_of_cycles
from headstart.recipe.tuned_settings import Tuned, every_combination
from headstart.records import Curve


class RaceArm(Config):
    """One variation of the recipe."""

    description: str = ""
    """For the report."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Overrides by dotted key, for example `distill.stop: 0.25`, or `distill: null`."""
    budgets: list[float] | None = None
    """Its own budgets, some of the race's, where the others could not change the answer; null: all."""
    seeds: list[Seed] | None = None
    """Its own seeds, some of the race's, where more would not be worth their time; null: all."""
    tune: Tuned = Field(default_factory=dict)
    """Its own lists of values to choose from, in place of those of `race.tune` for the same keys, or beside them. A
    list of one value sets it, and there is nothing to choose."""


class Race(Config):
    """What `headstart race` compares."""

    budgets: list[float] = Field(min_length=1)
    """Lengths of training, in the unit the recipe uses (`train.epochs` or `train.steps`)."""
    curve: Curve = "separate"
    """Where the points of an arm's curve come from. separate: a training of its own for each budget; cyclic: for each
    seed one training in cycles, read at their ends. The first cycle is the smallest budget, each further one is twice
    as long as the one before, so that the budgets are 1, 3, 7, 15, ... times the smallest (see `train.first_cycle`)."""
    seeds: list[Seed] = Field(min_length=1)
    """Each arm runs at each budget with each of these seeds, unless it names its own."""
    arms: dict[str, RaceArm] = Field(min_length=2)
    """Variations by name."""
    baseline: str = "baseline"
    """The arm that the others are compared with."""
    primary: str
    """The arm that the verdict is about: named before the race."""
    tune: Tuned = Field(default_factory=dict)
    """Values to choose from, by dotted key: `{train.lr: [0.05, 0.1, 0.2]}`. Before the race each arm gets its own, by
    short runs at `tune_budget`, judged on the `data.tuning` samples set aside; several keys make a grid."""
    tune_seeds: list[Seed] = Field([1000], min_length=1)
    """Seeds of the runs that `tune` takes, none of the race's; values are compared by their mean over them."""
    tune_budget: float | None = None
    """Length of the runs that `tune` takes; null: the smallest budget. What is best in a short run need not be best in
    one many times as long, so take a middle budget where the budgets lie far apart."""
    calibration_pairs: PositiveInt = 30
    """How often each kind of step is timed to calibrate the seconds."""

    @model_validator(mode="after")
    def _known_arms(self) -> Race:
        for key in ("baseline", "primary"):
            if getattr(self, key) not in self.arms:
                raise ValueError(f"{key}={getattr(self, key)!r} is none of the arms: {', '.join(self.arms)}")
        if self.baseline == self.primary:
            raise ValueError(f"{self.primary!r} is both baseline and primary; name another arm as one of them")
        return self

    @model_validator(mode="after")
    def _budgets_that_end_cycles(self) -> Race:
        for budget in [*self.budgets, self.trial_budget] if self.curve == "cyclic" else []:
            try:
                number_of_cycles(budget, min(self.budgets))
            except ValueError as error:
                raise ValueError(f"budgets, with curve=cyclic: {error}") from None
        return self

    @model_validator(mode="after")
    def _one_way_to_set_a_key(self) -> Race:
        for name, arm in self.arms.items():
            for key in {**self.tune, **arm.tune}:
                if key in arm.set:
                    raise ValueError(
                        f"arms.{name}.set: {key} is tuned too; write the value as arms.{name}.tune: "
                        f"{{{key}: [{arm.set[key]}]}}, which sets it"
                    )
        return self

    @model_validator(mode="after")
    def _baseline_tuned_as_hard(self) -> Race:
        tried = {name: len(self.settings_to_try(name)) for name in self.arms}
        hardest = max(tried, key=tried.__getitem__)
        if tried[self.baseline] < tried[hardest]:
            raise ValueError(
                f"tune: {self.baseline} has {tried[self.baseline]} settings to choose from and {hardest} "
                f"{tried[hardest]}; the baseline is tuned at least as hard as any arm, or the race favours the arm"
            )
        return self

    @model_validator(mode="after")
    def _seeds_of_its_own(self) -> Race:
        shared = set(self.seeds) & set(self.tune_seeds)
        if shared and any(len(self.settings_to_try(name)) > 1 for name in self.arms):
            raise ValueError(
                f"tune_seeds: {min(shared)} is a seed of the race too; settings chosen with it would suit that seed's "
                "runs by chance. Give another one"
            )
        return self

    @property
    def trial_budget(self) -> float:
        """Length of the runs that arms are tuned by."""
        return min(self.budgets) if self.tune_budget is None else self.tune_budget

    def settings_to_try(self, arm: str) -> list[dict[str, Any]]:
        """The settings that an arm chooses from, by dotted key; one, perhaps empty, where there is no choice."""
        return every_combination({**self.tune, **self.arms[arm].tune})

    def overrides(self, arm: str) -> dict[str, Any]:
        """What an arm changes in the recipe: what it sets itself, and the cycles of a cyclic race."""
        own = self.arms[arm].set
        return own if self.curve == "separate" else {**own, "train.first_cycle": min(self.budgets)}

    @field_validator("budgets")
    @classmethod
    def _lengths(cls, budgets: list[float]) -> list[float]:
        for budget in budgets:
            if budget <= 0:
                raise ValueError(f"{budget:g} trains nothing; budgets are lengths of training above 0")
        return budgets

    @field_validator("tune_budget")
    @classmethod
    def _a_length(cls, budget: float | None) -> float | None:
        return budget if budget is None else cls._lengths([budget])[0]

    @field_validator("budgets", "seeds", "tune_seeds")
    @classmethod
    def _each_once(cls, values: list[float]) -> list[float]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value:g} is there twice; give each once")
        return values
