"""What the report tells of automatic settings: what runs recorded of their looks, and only that."""

from __future__ import annotations

from typing import Any

from headstart.records import Arm, AutoRecord, RaceRecord, RunRecord
from headstart.report.auto_table import auto_table
from headstart.report.figures import NOTHING
from headstart.report.page import render_page


def looked(arm: str, seed: int, distill: dict[str, Any] | None, *reasons: str) -> RunRecord:
    auto = AutoRecord(distill=distill, reasons=list(reasons), seconds=1.0 + seed)
    return RunRecord(arm=arm, budget=2, seed=seed, quality=0.8, seconds=10, metric="accuracy", auto=auto)


def raced(*runs: RunRecord) -> RaceRecord:
    plain = RunRecord(arm="none", budget=2, quality=0.7, seconds=10, metric="accuracy")
    arms = [Arm(name=name) for name in dict.fromkeys(["none", *(run.arm for run in runs)])]
    return RaceRecord(
        arms=arms, baseline="none", primary=arms[-1].name, budgets=[2], seeds=[0, 1], budget_unit="epochs",
        runs=[plain, *runs],
    )  # fmt: skip


def asking(spec: str, temperature: float, **settings: Any) -> dict[str, Any]:
    return {
        "teachers": [{"spec": spec, "temperature": temperature}],
        "stop": "auto",
        "temperature": 1.0,
        "weight": 0.9,
        "every": 1,
    } | settings


def test_runs_that_choose_alike_share_a_row_with_measured_numbers_as_ranges() -> None:
    first = looked("auto", 0, asking("old", 0.95, open_at=0.31), "old: asked")
    second = looked("auto", 1, asking("old", 1.02, open_at=0.37), "old: asked, too")
    (row,) = auto_table(raced(first, second)).rows
    assert row == [
        "auto",
        "2 epochs, seeds 0, 1",
        "old (calibrated by T = 0.95 to 1.02)",
        "temperature 1, weight 0.9, stop auto, open_at 0.31 to 0.37",
        "old: asked",
        "1.5",
    ]


def test_runs_that_choose_otherwise_have_a_row_each() -> None:
    runs = (
        looked("auto", 0, asking("old", 1.0, weight=0.5)),
        looked("auto", 1, asking("old", 1.0)),
        looked("other", 0, asking("older", 1.0)),
        looked("other", 1, None, "no teacher is of use"),
    )
    rows = auto_table(raced(*runs)).rows
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("auto", "2 epochs, seed 0", "old (calibrated by T = 1)"),
        ("auto", "2 epochs, seed 1", "old (calibrated by T = 1)"),
        ("other", "2 epochs, seed 0", "older (calibrated by T = 1)"),
        ("other", "2 epochs, seed 1", "no teacher"),
    ]
    assert rows[0][3] == "temperature 1, weight 0.5, stop auto" and rows[3][3:5] == [NOTHING, "no teacher is of use"]


def test_the_page_has_the_table_where_a_run_looked_and_only_there() -> None:
    with_look = raced(looked("auto", 0, None, "old: <no> better than chance"))
    page = render_page(with_look, [], [])
    assert "What automatic settings chose" in page and "old: &lt;no&gt; better than chance" in page
    assert "What automatic settings chose" not in render_page(raced(), [], [])
