"""Links to what the runs left behind: to what is there, and to nothing outside the race folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.records import OpenedRecord, RaceRecord, StoppedRecord
from headstart.report import write_report
from headstart.report.figures import NOTHING
from headstart.report.result_tables import Link
from headstart.report.run_table import race_files, run_table


def test_every_run_is_linked_to_its_files(race: RaceRecord, tmp_path: Path) -> None:
    place = tmp_path / "runs" / "early b2"
    place.mkdir(parents=True)
    (place / "record.json").write_text("{}")
    (place / "metrics.jsonl").write_text("")
    runs = [
        run.model_copy(update={"folder": "runs/early b2"})
        if (run.arm, run.budget, run.seed) == ("early", 2.0, 0)
        else run
        for run in reversed(race.runs)
    ]
    table = run_table(race.model_copy(update={"runs": runs}), tmp_path)
    names = [row[0] for row in table.rows]
    assert len(names) == len(race.runs)
    assert names[:2] == ["baseline, 2 epochs, seed 0", "baseline, 2 epochs, seed 1"]
    assert [column.name for column in table.columns][-1] == "Files"
    assert table.rows[names.index("early, 2 epochs, seed 0")][-1] == (
        Link("record.json", "./runs/early%20b2/record.json"),
        Link("metrics.jsonl", "./runs/early%20b2/metrics.jsonl"),
    )


@pytest.mark.parametrize("folder", ["../elsewhere", "ABSOLUTE", "javascript:alert(1)"])
def test_nothing_outside_the_race_folder_is_linked(race: RaceRecord, tmp_path: Path, folder: str) -> None:
    inside, outside = tmp_path / "race", tmp_path / "elsewhere"
    for place in (outside, inside / "javascript:alert(1)"):
        place.mkdir(parents=True)
        (place / "record.json").write_text("{}")
    run = race.runs[0].model_copy(update={"folder": str(outside) if folder == "ABSOLUTE" else folder})
    table = run_table(race.model_copy(update={"runs": [run]}), inside)
    links = [link for row in table.rows for cell in row if not isinstance(cell, str) for link in cell]
    assert all(link.address == "./javascript%3Aalert%281%29/record.json" for link in links)
    assert len(links) == folder.startswith("javascript")


def test_the_race_s_own_files_are_linked(race: RaceRecord, tmp_path: Path) -> None:
    assert race_files(tmp_path) == []
    (tmp_path / "race.json").write_text("{}")
    page = write_report(race, tmp_path).read_text(encoding="utf-8")
    assert [link.address for link in race_files(tmp_path)] == [
        "./race.json",
        "./curves.svg",
        "./flops.svg",
        "./speedup.svg",
        "./time.svg",
    ]
    assert '<a href="./race.json">race.json</a>' in page


def test_where_an_automatic_stop_closed_the_window(race: RaceRecord) -> None:
    assert not {"Distilled from", "Distilled until"} & {column.name for column in run_table(race, None).columns}
    stopped = StoppedRecord(step=240, end=249, total_steps=938, reason="passed", told="")
    first = {"stopped": stopped, "opened": OpenedRecord(step=31)}
    second = race.runs[1].model_copy(update={"opened": OpenedRecord(step=None)})
    runs = [race.runs[0].model_copy(update=first), second, *race.runs[2:]]
    table = run_table(race.model_copy(update={"runs": runs}), None)
    place = [column.name for column in table.columns].index("Distilled until")
    assert {row[place] for row in table.rows} == {"step 249 of 938: passed", NOTHING}
    assert {row[place - 1] for row in table.rows} == {"step 31", "never", NOTHING}
