"""The benchmark of pilots: whose forecasts are held against which races."""

from __future__ import annotations

from pathlib import Path

import pilot
import pytest

from headstart.recipe.load import load_recipe
from headstart.records import Estimate
from headstart.train.costs.pilot import PilotForecast
from results_file import RESULTS, Figure, Result


@pytest.mark.parametrize("name", pilot.CASES)
def test_each_is_the_raced_arm_and_its_race_is_recorded(name: str) -> None:
    case = pilot.CASES[name]
    recipe = load_recipe(pilot.ROOT / "recipes" / f"{name}.yaml", list(case.overrides))
    assert recipe.distill is not None and recipe.distill.stop == 1.0
    found = pilot.raced(case)
    assert found is not None and found.low is not None and found.low <= found.value
    assert case.figure in Result.model_validate_json((RESULTS / f"{case.result}.json").read_text()).figures


def test_a_race_that_nobody_has_recorded(tmp_path: Path) -> None:
    assert pilot.raced(pilot.CASES["demo"], tmp_path) is None


def test_what_a_pilot_has_not_resolved_is_a_result_too() -> None:
    speedup = Estimate(value=1.4, low=0.9, high=2.0)
    found = PilotForecast(
        fraction=0.5, budget=120, unit="steps", seeds=2, status="reached", verdict="not resolved", speedup=speedup
    )
    figures = pilot.figures_of("demo", found, Figure(value=2.0, low=1.5, high=2.5, n=3))
    assert figures["resolved.demo"].value == 0.0 and figures["race.demo"].value == 2.0
    assert (figures["pilot.demo"].value, figures["pilot.demo"].low, figures["length.demo"].value) == (1.4, 0.9, 120)
    lost = found.model_copy(update={"speedup": None, "verdict": "slower"})
    assert set(pilot.figures_of("demo", lost, None)) == {"resolved.demo", "length.demo"}
    assert pilot.figures_of("demo", lost, None)["resolved.demo"].value == 1.0
