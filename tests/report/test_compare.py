"""Several races on one page."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from headstart.errors import HeadstartError
from headstart.records import Estimate, RaceRecord
from headstart.report import Price, races_table, verdict_sentence, write_comparison
from headstart.report.compare import _speedups, comparison_table
from headstart.report.figures import NOTHING
from headstart.report.result_tables import Link


@pytest.fixture
def races(race: RaceRecord, with_primary: Callable[..., RaceRecord]) -> dict[str, RaceRecord]:
    never = with_primary(status="not reached", verdict="slower", speedup=None, arm_cost=None)
    return {
        "runs/garments": race,
        "runs/text": never.model_copy(update={"name": "text"}),
        "runs/empty": race.model_copy(update={"name": "empty", "runs": [], "results": []}),
    }


def test_a_row_a_race(races: dict[str, RaceRecord]) -> None:
    table = comparison_table(races)
    assert [row[0] for row in table.rows] == ["garments", "text", "empty"]
    assert table.rows[0] == [
        *("garments", "early", "faster", "1.70x", "1.50 to 1.90", "390 s", "230 s", "+0.42 points", "0.45x"),
        *("4 trainings", "calibrated seconds"),
    ]
    assert table.rows[1][2:5] == ["slower", "not reached", NOTHING]
    assert set(table.rows[2][2:-1]) == {NOTHING}
    priced = comparison_table(races, price=Price(36.0))
    assert priced.rows[0][-2] == "1.61 USD"


def test_races_of_one_name_are_told_apart_by_their_folders(race: RaceRecord) -> None:
    assert [row[0] for row in comparison_table({"a/x": race, "a/y": race}).rows] == ["x", "y"]
    assert [row[0] for row in comparison_table({"a/x": race, "b/x": race}).rows] == ["a/x", "b/x"]


def test_the_page_shows_table_picture_and_verdicts_and_links_the_reports(race: RaceRecord, tmp_path: Path) -> None:
    folders = [tmp_path / "runs" / name for name in ("one", "two 2")]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[1] / "report.html").write_text("")
    page = write_comparison(dict.fromkeys(folders, race), tmp_path / "out" / "comparison.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 1
    assert text.count(verdict_sentence(race).replace("'", "&#39;")) == 2
    assert '<a href="./../runs/two%202/report.html">report</a>' in text
    assert "one/report.html" not in text
    assert "<script" not in text and "http" not in text
    assert comparison_table(dict.fromkeys(folders, race), base=tmp_path).rows[1][-1] == (
        Link("report", "./runs/two%202/report.html"),
    )


def test_intervals_are_drawn_and_open_ends_have_arrows(with_primary: Callable[..., RaceRecord]) -> None:
    speedups = {"a": Estimate(value=1.7, low=1.5, high=1.9), "b": Estimate(value=1.2, low=0.0, high=1.4)}
    picture = _speedups({name: with_primary(speedup=speedup) for name, speedup in speedups.items()})
    assert picture is not None
    (axes,) = picture.figure.axes
    lines = [(line.get_marker(), list(line.get_xdata())) for line in axes.lines]  # type: ignore[arg-type]
    assert ("None", [1.5, 1.9]) in lines
    assert ("<", [0.6]) in lines
    assert [marker for marker, _ in lines].count("o") == 2
    assert "a: 1.70x (1.50 to 1.90)" in picture.alt
    assert _speedups({"c": with_primary(status="not reached", speedup=None)}) is None


def test_the_terminal_shows_a_row_a_race(races: dict[str, RaceRecord]) -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(races_table(races))
    lines = stream.getvalue().splitlines()
    assert sum(line.startswith(("garments", "text", "empty")) for line in lines) == 3


def test_one_race_is_no_comparison(race: RaceRecord, tmp_path: Path) -> None:
    with pytest.raises(HeadstartError, match="two races or more"):
        write_comparison({"a": race}, tmp_path / "page.html")
