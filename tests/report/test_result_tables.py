"""The tables: every figure is the record's, and names from the race are never read as markup."""

from __future__ import annotations

import io
import statistics

import pytest
from rich.console import Console

from headstart.records import Arm, Calibration, RaceRecord, RunRecord, StepTime
from headstart.report import results_table
from headstart.report.cells import split_time, summarise
from headstart.report.figures import NOTHING
from headstart.report.result_tables import (
    Cell,
    Table,
    cell_table,
    failure_table,
    result_tables,
    step_table,
    teacher_table,
)
from headstart.report.sentences import caveats


def printed(race: RaceRecord, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(results_table(race))
    return stream.getvalue()


def row_of(table: Table, *labels: str) -> dict[str, Cell]:
    """The row whose first cells are these, by the columns' heads (no-break spaces as spaces)."""
    (row,) = (row for row in table.rows if tuple(row[: len(labels)]) == labels)
    return {
        column.name.replace("\N{NO-BREAK SPACE}", " "): cell for column, cell in zip(table.columns, row, strict=True)
    }


def test_cells_are_means_over_seeds(race: RaceRecord) -> None:
    table = cell_table(race)
    assert len(table.rows) == 4 * 3
    runs = [run for run in race.runs if (run.arm, run.budget) == ("early", 4.0)]
    row = row_of(table, "early", "4 epochs")
    assert (row["Runs"], row["Failed"]) == ("3", "0")
    assert row["Accuracy (%)"] == f"{100 * statistics.mean(run.quality for run in runs):.2f}"
    assert row["Standard deviation"] == f"{100 * statistics.stdev(run.quality for run in runs):.2f}"
    assert row["Raw seconds"] == f"{statistics.mean(run.seconds for run in runs):.0f}"
    assert row["Calibrated seconds"] == f"{938 * 0.052 + 938 * 0.074:.0f}"
    assert row["FLOPs"] == f"{(1876 * 1.1e9 + 938 * 0.9e9) * 128 / 1e12:.0f} TFLOP"


def test_energy_has_a_column_where_it_was_measured(race: RaceRecord) -> None:
    assert "Energy" not in [column.name for column in cell_table(race).columns]
    runs = [run.model_copy(update={"energy_joules": 3600.0 * (1 + run.seed)}) for run in race.runs]
    assert row_of(cell_table(race.model_copy(update={"runs": runs})), "early", "4 epochs")["Energy"] == "2.00 Wh"


def test_a_failed_run_is_counted_and_left_out(race: RaceRecord) -> None:
    row = row_of(cell_table(race), "whole", "16 epochs")
    kept = [run.quality for run in race.runs if (run.arm, run.budget) == ("whole", 16.0)]
    assert (row["Runs"], row["Failed"]) == ("2", "1")
    assert row["Accuracy (%)"] == f"{100 * sum(kept) / 2:.2f}"


def test_a_cell_without_runs_has_dashes(race: RaceRecord) -> None:
    alone = race.model_copy(update={"runs": [run for run in race.runs if run.arm == "baseline" and run.seed == 0]})
    row = row_of(cell_table(alone), "early", "2 epochs")
    assert (row["Runs"], row["Accuracy (%)"], row["Raw seconds"], row["FLOPs"]) == ("0", NOTHING, NOTHING, NOTHING)
    assert row_of(cell_table(alone), "baseline", "2 epochs")["Standard deviation"] == NOTHING


def test_the_split_adds_up_to_the_calibrated_time() -> None:
    calibration = Calibration(
        kinds={
            "plain": StepTime(seconds=0.5, data_seconds=0.125),
            "distilling": StepTime(seconds=1.0, data_seconds=0.125, teacher_seconds=0.25),
        }
    )
    split = split_time(RunRecord(quality=1, seconds=9, steps={"plain": 10, "distilling": 4}), calibration)
    assert split is not None
    assert (split.data, split.teacher, split.student) == (14 * 0.125, 4 * 0.25, 9.0 - 14 * 0.125 - 4 * 0.25)
    assert split.total == 10 * 0.5 + 4 * 1.0


@pytest.mark.parametrize("steps", [{}, {"plain": 1, "unheard of": 1}])
def test_no_split_without_a_calibration_of_every_step(steps: dict[str, int]) -> None:
    run = RunRecord(quality=1, seconds=1, steps=steps)
    assert split_time(run, Calibration(kinds={"plain": StepTime(seconds=1)})) is None
    assert split_time(run, None) is None


def test_cells_of_a_budget_stand_together_smallest_first(race: RaceRecord) -> None:
    cells = summarise(race.model_copy(update={"budgets": [8.0, 2.0, 16.0, 4.0]}))
    assert [row[0].budget for row in cells] == [2.0, 4.0, 8.0, 16.0]
    assert [cell.arm for cell in cells[0]] == ["baseline", "early", "whole"]


def test_results_show_every_figure_of_every_clock(race: RaceRecord) -> None:
    calibrated, seconds, flops = result_tables(race)
    assert calibrated.caption.endswith("in calibrated seconds.")
    assert seconds.caption.endswith("in raw seconds.")
    assert row_of(calibrated, "early") == {
        "Arm": "early",
        "Verdict": "faster",
        "Speed-up (95 % interval)": "1.70x (1.50 to 1.90)",
        "Baseline's best costs": "390 s",
        "Arm gets there for": "230 s",
        "Gain at equal time, points (95 % interval)": "+0.42 (+0.21 to +0.63)",
        "Teachers' training": "635 s",
        "Teachers counted in": "0.45x",
        "Breaks even after": "4 trainings",
    }
    row = row_of(flops, "whole")
    assert row["Verdict"] == "not resolved"
    assert (row["Baseline's best costs"], row["Arm gets there for"]) == ("1.06 PFLOP", "710 TFLOP")
    assert row["Gain at equal FLOPs, points (95 % interval)"] == "+0.42 (+0.21 to +0.63)"


def test_the_headline_clock_comes_first(race: RaceRecord) -> None:
    assert result_tables(race.model_copy(update={"headline_clock": "flops"}))[0].caption.endswith("in FLOPs.")


def test_teachers_stand_once_with_quality_cost_and_users(race: RaceRecord) -> None:
    table = teacher_table(race)
    assert [row[0] for row in table.rows] == ["large", "small"]
    assert table.rows[0] == ["large", "early, whole", "92.90", "172,506", "420", "240 TFLOP"]


def test_the_small_tables_repeat_the_record(race: RaceRecord) -> None:
    assert failure_table(race).rows == [
        ["whole", "8 epochs", "1", "loss not finite"],
        ["whole", "16 epochs", "2", "loss not finite"],
    ]
    assert step_table(race).rows == [
        ["plain", "52.0", "51.0 to 53.0", "200", "4.00", NOTHING],
        ["distilling", "74.0", "73.0 to 76.0", "200", "4.00", "21.0"],
    ]
    assert step_table(race.model_copy(update={"calibration": None})).rows == []


def test_the_terminal_shows_the_headline_and_the_speedup_in_flops(race: RaceRecord) -> None:
    lines = printed(race).splitlines()
    (early,) = (line.split() for line in lines if line.startswith("early"))
    assert early == ["early", "faster", "1.70x", "1.50", "to", "1.90", "1.70x", "+0.42", "0.45x", "4"]
    assert sum(line.startswith("whole") for line in lines) == 1
    assert lines[-1].strip() == "Against baseline, in calibrated seconds."


def test_the_terminal_table_fits_80_columns_and_cuts_nothing(race: RaceRecord) -> None:
    text = printed(race, width=80)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_names_are_not_read_as_markup(race: RaceRecord) -> None:
    name = "[red]x[/red]"
    results = [result.model_copy(update={"arm": name}) for result in race.results if result.arm == "early"]
    renamed = race.model_copy(
        update={"arms": [*race.arms, Arm(name=name)], "results": results, "baseline": "[bold]b", "primary": name}
    )
    text = printed(renamed)
    assert name in text
    assert "Against [bold]b" in text


def test_an_arm_with_budgets_of_its_own_has_no_rows_at_the_others() -> None:
    arms = [Arm(name="plain"), Arm(name="fast", budgets=[2])]
    raced = (("plain", 1), ("plain", 2), ("fast", 2))
    runs = [RunRecord(arm=arm, budget=budget, quality=0.5, seconds=1.0) for arm, budget in raced]
    record = RaceRecord(arms=arms, baseline="plain", primary="fast", budgets=[1, 2], seeds=[0], runs=runs)
    assert [[(cell.arm, cell.budget) for cell in row] for row in summarise(record)] == [
        [("plain", 1.0)],
        [("plain", 2.0), ("fast", 2.0)],
    ]
    assert caveats(record) == []
