"""A race as rows, for pandas, polars or a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart import race_table, read_race
from headstart.errors import HeadstartError
from headstart.records import Arm, Calibration, RaceRecord, RunRecord, StepTime, write_record


@pytest.fixture
def race() -> RaceRecord:
    runs = [
        RunRecord(arm="a", budget=1, quality=0.5, seconds=9.0, steps={"plain": 10}, losses={"held_out_loss": 1.5}),
        RunRecord(arm="b", budget=1, quality=0.6, seconds=8.0, steps={"plain": 4, "taught": 6}, flops=1e9),
        RunRecord(arm="b", budget=2, quality=0.7, seconds=7.0),
    ]
    calibration = Calibration(kinds={"plain": StepTime(seconds=0.5), "taught": StepTime(seconds=1.0)})
    arms = [Arm(name="a"), Arm(name="b")]
    return RaceRecord(
        arms=arms, baseline="a", primary="b", budgets=[1, 2], seeds=[0], runs=runs, calibration=calibration
    )


def test_rows_have_all_figures_and_the_same_keys(race: RaceRecord) -> None:
    first, second, third = race_table(race)
    assert list(first) == list(second) == list(third)
    assert (second["arm"], second["quality"], second["flops"]) == ("b", 0.6, 1e9)
    assert [row["calibrated_seconds"] for row in (first, second, third)] == [5.0, 8.0, None]
    assert [row["steps.taught"] for row in (first, second, third)] == [0, 6, None]
    assert [row["losses.held_out_loss"] for row in (first, second, third)] == [1.5, None, None]


def test_it_is_read_from_the_folder_or_the_file(race: RaceRecord, tmp_path: Path) -> None:
    write_record(race, tmp_path / "race.json")
    assert race_table(tmp_path) == race_table(tmp_path / "race.json") == race_table(race)
    assert read_race(tmp_path) == race
    with pytest.raises(HeadstartError, match=r"nowhere: holds no race\.json; give a folder"):
        read_race(tmp_path / "nowhere")


def test_pandas_takes_it_in_one_line(race: RaceRecord) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(race_table(race))
    assert frame.groupby("arm")["quality"].mean().round(3).to_dict() == {"a": 0.5, "b": 0.65}


def test_polars_takes_it_in_one_line(race: RaceRecord) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    assert polars.DataFrame(race_table(race)).shape == (3, len(race_table(race)[0]))
