"""The section of a recipe that `headstart race` reads."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt, field_validator, model_validator

from headstart.config import Config, Seed
from headstart.recipe.cycles import number_of_cycles
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
        for budget in self.budgets if self.curve == "cyclic" else []:
            try:
                number_of_cycles(budget, min(self.budgets))
            except ValueError as error:
                raise ValueError(f"budgets, with curve=cyclic: {error}") from None
        return self

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

    @field_validator("budgets", "seeds")
    @classmethod
    def _each_once(cls, values: list[float]) -> list[float]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value:g} is there twice; give each once")
        return values
