"""What was raced and where: arms, differences of recipes, environments."""

from __future__ import annotations

from typing import Any

from headstart.records import RaceRecord
from headstart.report.figures import NOTHING
from headstart.report.setup_tables import arm_table, difference_table, environment_table


def with_settings(race: RaceRecord, settings: dict[str, dict[str, Any]]) -> RaceRecord:
    """The race with resolved recipes in its runs: the arm's, with the run's own budget and seed in it."""
    runs = []
    for run in race.runs:
        train = {"lr": 0.1, "epochs": run.budget, "seed": run.seed}
        runs.append(run.model_copy(update={"settings": {"train": train, **settings[run.arm]}}))
    return race.model_copy(update={"runs": runs})


def test_arms_with_their_part_budgets_and_seeds(race: RaceRecord) -> None:
    table = arm_table(race)
    assert table.caption == "The arms of the race, budgets in epochs."
    cyclic = arm_table(race.model_copy(update={"curve": "cyclic"}))
    assert cyclic.caption.endswith("budgets in epochs; the budgets of a seed are points of one training in cycles.")
    assert table.rows[1] == ["early", "primary", "distilling the first half", "2, 4, 8, 16", "0, 1, 2"]


def test_recipes_differ_in_what_arms_set_and_not_in_budget_or_seed(race: RaceRecord) -> None:
    teachers: list[Any] = ["large", {"spec": "small", "labels": None}]
    distill = {"teachers": teachers, "weight": 0.9, "cache": None}
    settings: dict[str, dict[str, Any]] = {
        "baseline": {"distill": None},
        "early": {"distill": {**distill, "stop": 0.5}},
        "whole": {"distill": {**distill, "stop": 1.0}},
    }
    table = difference_table(with_settings(race, settings))
    assert [column.name for column in table.columns] == ["Setting", "baseline", "early", "whole"]
    assert table.rows == [
        ["distill.teachers", NOTHING, "large, spec=small", "large, spec=small"],
        ["distill.weight", NOTHING, "0.9", "0.9"],
        ["distill.stop", NOTHING, "0.5", "1.0"],
    ]


def test_without_resolved_recipes_the_overrides_tell(race: RaceRecord) -> None:
    assert difference_table(race).rows == [["distill.stop", NOTHING, "0.5", "1.0"]]


def test_environments_that_differ_stand_beside_each_other(race: RaceRecord) -> None:
    assert environment_table(race).rows == [["python", "3.11.2"], ["device", "cpu, 2 threads"]]
    first, *rest = race.runs
    runs = [
        first.model_copy(update={"environment": {"python": "3.12.1", "device": "cpu, 1 thread"}}),
        *(run.model_copy(update={"environment": race.environment}) for run in rest),
    ]
    assert environment_table(race.model_copy(update={"runs": rest})).rows == environment_table(race).rows
    table = environment_table(race.model_copy(update={"runs": runs}))
    assert table.rows[0] == ["python", "3.11.2", "3.12.1; 3.11.2"]
    assert [column.name for column in table.columns] == ["Environment", "Race and calibration", "Runs"]
