"""`headstart race` in parts and on a cluster: the command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headstart.cli import app
from headstart.records import RaceRecord, read_record
from tests.tiny import racing, write_images, write_recipe

PROGRAM = """
import json, sys
arm, budget, record = sys.argv[1:]
with open(record, "w") as file:
    json.dump({"quality": 1 - 1 / (float(budget) * (1 if arm == "baseline" else 2)), "seconds": float(budget)}, file)
"""

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def parts(run: Run, *arguments: object) -> list[list[str]]:
    """The commands that `--plan` prints, without the program's name."""
    planned = run("race", *arguments, "--plan")
    assert planned.exit_code == 0, planned.output
    lines = [shlex.split(line) for line in planned.stdout.splitlines() if line]
    assert all(line[0] == "headstart" for line in lines)
    return [line[1:] for line in lines]


def test_a_recipe_is_raced_line_by_line(run: Run, tmp_path: Path) -> None:
    data = write_images(tmp_path / "the images")
    recipe, out = write_recipe(tmp_path / "the recipe.yaml", racing(data)), tmp_path / "race"
    given = [recipe, "train.lr=0.05", "--out", out]
    lines = parts(run, *given)
    assert [line[-1].split("/")[0] for line in lines] == ["teachers"] + ["runs"] * 4 and not out.exists()
    refused = run(*lines[2])
    assert refused.exit_code == 5 and "needs its teacher 'old'" in refused.stderr
    for line in lines:
        done = run(*line)
        assert done.exit_code == 0 and done.stdout == "", done.output
    assert parts(run, *given) == [] and not (out / "race.json").exists()
    judged = run("race", *given)
    assert judged.exit_code == 0 and "run 1/4" not in judged.stderr
    assert len(read_record(RaceRecord, out / "race.json").runs) == 4


def test_a_command_is_raced_line_by_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    template = f"{sys.executable} {tmp_path / 'program.py'} {{arm}} {{budget}} {{record}}"
    given = ["--cmd", template, "--budgets", "2,4", "--seeds", "0", "--out", tmp_path / "race"]
    lines = parts(run, *given)
    assert len(lines) == 4
    for line in lines[:3]:
        assert run(*line).exit_code == 0
    assert parts(run, *given) == lines[3:]
    judged = run("race", *given)
    assert judged.exit_code == 0 and "run 4/4" in judged.stderr and "run 3/4" not in judged.stderr
    assert len(read_record(RaceRecord, tmp_path / "race" / "race.json").runs) == 4
    wrong = run("race", *given, "--only", "runs/baseline-b3-s0")
    assert wrong.exit_code == 5 and "runs/baseline-b3-s0 is no part of this race" in wrong.stderr


def test_a_race_without_time_says_so_and_goes_on_with_more(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    template = f"{sys.executable} {tmp_path / 'program.py'} {{arm}} {{budget}} {{record}}"
    given = ["--cmd", template, "--budgets", "2,4", "--seeds", "0", "--out", tmp_path / "race"]
    none = run("race", *given, "--hours", "0")
    assert none.exit_code == 0 and "4 of 4 runs are still to come: there was no time for more." in none.stdout
    assert read_record(RaceRecord, tmp_path / "race" / "race.json").cut_short
    some = run("race", *given, "--hours", "1")
    assert some.exit_code == 0 and "still to come" not in some.stdout
    record = read_record(RaceRecord, tmp_path / "race" / "race.json")
    assert len(record.runs) == 4 and not record.cut_short


@pytest.mark.parametrize("how", [[], ["--plan"], ["--only", "runs/baseline-b1-s0"]])
def test_one_process_races(how: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = run("race", "--cmd", "x {record}", "--budgets", "1", "--out", tmp_path, *how)
    assert refused.exit_code == 2 and "was started as 2 processes, of which each would do all" in refused.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("on", "code", "message"),
    [("slurm", 2, "--on='slurm': give local, ray, or ray://HOST:PORT"), ("ray", 1, "pip install 'headstart[ray]'")],
)
def test_where_it_cannot_run(on: str, code: int, message: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused = run("race", "--cmd", "x {record}", "--budgets", "1", "--on", on)
    assert refused.exit_code == code and message in refused.stderr and "Traceback" not in refused.stderr
