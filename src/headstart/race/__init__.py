"""The race: arms x budgets x seeds of any training, and the verdict on how much faster than the baseline each arm is.

It knows only a function `(arm, budget, seed) -> RunRecord`. `headstart.race` is this package and, when called, its
function `race`: `headstart.race(train, arms=["plain", "mine"], budgets=[1, 2, 4], seeds=[0, 1], folder="runs/mine")`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from headstart.race.book import race_alone
from headstart.race.command import command_function
from headstart.race.definition import Definition, Earlier
from headstart.race.listener import Listener, Silent, time_left
from headstart.race.one_run import RaceFunction, finished_run, run_once
from headstart.race.plan import Run, interleaved, plan_race
from headstart.race.run_names import run_folder, run_name
from headstart.race.runner import race
from headstart.race.statistics.tradeoff import (
    SpeedupCurve,
    TradeoffCurve,
    speedup_against_quality,
    speedup_at_quality,
    tradeoff_curves,
)
from headstart.race.statistics.verdict import judge
from headstart.race.table import race_table, read_race
from headstart.race.time_limit import most_telling_first
from headstart.records import RaceRecord

__all__ = [
    "Definition",
    "Earlier",
    "Listener",
    "RaceFunction",
    "Run",
    "Silent",
    "SpeedupCurve",
    "TradeoffCurve",
    "command_function",
    "finished_run",
    "interleaved",
    "judge",
    "most_telling_first",
    "plan_race",
    "race",
    "race_alone",
    "race_table",
    "read_race",
    "run_folder",
    "run_name",
    "run_once",
    "speedup_against_quality",
    "speedup_at_quality",
    "time_left",
    "tradeoff_curves",
]


class _CallablePackage(ModuleType):
    """Python sets `headstart.race` to this package when it is imported; calling it must go on to mean the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> RaceRecord:
        return race(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
