"""Records: written whole or not at all, read back as they were, refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headstart.errors import HeadstartError
from headstart.records import (
    Arm,
    Calibration,
    RaceRecord,
    RunRecord,
    StepTime,
    atomic_file,
    read_record,
    write_atomically,
    write_record,
)

RUN = RunRecord(quality=0.91, seconds=12.5, arm="plain", budget=2, steps={"plain": 7}, flops=1e18)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    race = RaceRecord(
        arms=[Arm(name="plain"), Arm(name="ärm", overrides={"distill": None, "train.lr": [0.1]})],
        baseline="plain",
        primary="ärm",
        budgets=[1, 2.5],
        seeds=[0],
        runs=[RUN],
        calibration=Calibration(kinds={"plain": StepTime(seconds=0.05)}),
    )
    write_record(race, tmp_path / "race.json")
    assert read_record(RaceRecord, tmp_path / "race.json") == race


def test_the_smallest_record_of_a_program_is_enough(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"quality": 0.91, "seconds": 12.5}')
    assert read_record(RunRecord, tmp_path / "r.json") == RunRecord(quality=0.91, seconds=12.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"quality": 0.9}', r"r.json: seconds: Field required \(expected a RunRecord\)"),
        ('{"quality": 0.9, "seconds": -1}', "r.json: seconds: Input should be greater than or equal to 0"),
        ('{"quality": NaN, "seconds": 1}', "r.json: quality: Input should be a finite number"),
        ('{"quality": "good", "seconds": 1}', "r.json: quality: Input should be a valid number"),
        ('{"quality": 0.9, "seconds": 1, "sedes": 1}', "r.json: sedes: Extra inputs are not permitted"),
        ("[1]", "r.json: the file: Input should be an object"),
        ('{"quality": 0.9, ', "r.json: the file: Invalid JSON"),
        ("", "r.json: the file: Invalid JSON"),
    ],
)
def test_what_is_no_record_is_refused_with_file_and_field(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(HeadstartError, match=message):
        read_record(RunRecord, tmp_path / "r.json")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadstartError, match=r"none.json: cannot be read \(No such file or directory\)"):
        read_record(RunRecord, tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(HeadstartError, match=r"binary.json: cannot be read .*can't decode byte"):
        read_record(RunRecord, tmp_path / "binary.json")


def test_a_record_on_disk_is_plain_json_for_other_programs(tmp_path: Path) -> None:
    write_record(RUN, tmp_path / "deep" / "r.json")
    assert json.loads((tmp_path / "deep" / "r.json").read_text())["steps"] == {"plain": 7}


@pytest.mark.parametrize("moment", ["while writing", "os.fsync", "os.replace"])
def test_the_file_before_survives_whatever_goes_wrong(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("full")

    write_atomically(tmp_path / "r.json", b"before")
    if moment != "while writing":
        monkeypatch.setattr(moment, fail)
    with pytest.raises(OSError, match="full"), atomic_file(tmp_path / "r.json") as file:
        file.write(b"half of what ca")
        if moment == "while writing":
            fail()
    assert os.listdir(tmp_path) == ["r.json"]
    assert (tmp_path / "r.json").read_bytes() == b"before"


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "r.json", b"")
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o644
