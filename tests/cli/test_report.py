"""`headstart report`: of one race with a price, and of several side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headstart.cli import app
from headstart.records import Arm, RaceRecord, RunRecord, write_record


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two race folders with finished, unjudged races: `fast` takes half the time."""
    for name in ("images", "text"):
        runs = [
            RunRecord(arm=arm, budget=budget, seed=seed, quality=1 - 1 / (budget * pace) + 0.001 * seed, seconds=budget)
            for arm, pace in (("plain", 1), ("fast", 2))
            for budget in (2.0, 4.0, 8.0)
            for seed in (0, 1)
        ]
        arms = [Arm(name="plain"), Arm(name="fast")]
        race = RaceRecord(
            name=name, arms=arms, baseline="plain", primary="fast", budgets=[2, 4, 8], seeds=[0, 1], runs=runs
        )
        (tmp_path / name).mkdir()
        write_record(race, tmp_path / name / "race.json")
    return [tmp_path / "images", tmp_path / "text"]


def test_a_price_brings_money_to_the_report(run: Callable[..., Result], folders: list[Path]) -> None:
    done = run("report", folders[0], "--price", "900", "--currency", "EUR")
    assert done.exit_code == 0, done.output
    assert "1.00 EUR saved" in (folders[0] / "report.html").read_text(encoding="utf-8")
    refused = run("report", folders[0], "--price", "0")
    assert refused.exit_code == 1 and "price=0.0: give what an hour of the machine costs" in refused.stderr


def test_several_races_are_compared(run: Callable[..., Result], folders: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    done = run("report", *folders, "--out", page)
    assert done.exit_code == 0, done.output
    assert f"Comparison: {page}" in done.stdout
    assert "images" in done.stdout and "text" in done.stdout and "2.00x" in done.stdout
    assert "<td" in page.read_text(encoding="utf-8")
    races = json.loads(run("report", *folders, "--out", page, "--json").stdout)
    assert [race["name"] for race in races] == ["images", "text"]


def test_a_race_that_is_missing_is_named(run: Callable[..., Result], folders: list[Path], tmp_path: Path) -> None:
    done = run("report", folders[0], tmp_path / "nowhere")
    assert done.exit_code == 1 and f"{tmp_path / 'nowhere'}: holds no race.json; give a folder that" in done.stderr


def test_the_record_stands_for_its_folder(run: Callable[..., Result], folders: list[Path]) -> None:
    done = run("report", folders[0] / "race.json")
    assert done.exit_code == 0, done.output
    assert (folders[0] / "report.html").exists()


def test_a_page_that_compares_takes_several_races(
    run: Callable[..., Result], folders: list[Path], tmp_path: Path
) -> None:
    refused = run("report", folders[0], "--out", tmp_path / "page.html")
    assert refused.exit_code == 2 and "is for a page that compares races; that of one is in" in refused.stderr
    assert not (folders[0] / "report.html").exists()


def test_the_verdict_is_told_where_the_page_cannot_be_written(run: Callable[..., Result], folders: list[Path]) -> None:
    (folders[0] / "report.html").mkdir()
    done = run("report", folders[0])
    assert done.exit_code == 1 and "fast is faster: 2.00x" in done.stdout and "Report: " not in done.stdout
    assert "report.html: the report cannot be written (" in done.stderr and "what was raced is kept" in done.stderr
    machine = run("report", folders[0], "--json")
    assert machine.exit_code == 1 and RaceRecord.model_validate_json(machine.stdout).name == "images"


def test_a_comparison_that_cannot_be_written_is_told(
    run: Callable[..., Result], folders: list[Path], tmp_path: Path
) -> None:
    done = run("report", *folders, "--out", tmp_path)
    assert done.exit_code == 1 and "2.00x" in done.stdout
    assert f"{tmp_path}: the report cannot be written (" in done.stderr


def test_a_quality_that_no_run_can_have_is_refused(run: Callable[..., Result], folders: list[Path]) -> None:
    refused = run("report", folders[0], "--quality", "nan")
    assert refused.exit_code == 2 and "--quality=nan: give a quality that a run can have" in refused.stderr
