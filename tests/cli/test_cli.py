"""The command: from end to end, its exit codes, its messages, its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from headstart.cli import app
from headstart.records import RaceRecord, RunRecord, read_record
from tests.tiny import racing, write_images, write_recipe, write_run

PROGRAM = """
import argparse, json
parser = argparse.ArgumentParser()
for name in ("arm", "budget", "seed", "record"):
    parser.add_argument("--" + name)
given = parser.parse_args()
if given.arm == "broken" and given.budget == "4":
    raise SystemExit("out of luck")
quality = 1 - 1 / (float(given.budget) * (1 if given.arm == "baseline" else 2))
with open(given.record, "w") as file:
    json.dump({"quality": quality, "seconds": float(given.budget)}, file)
"""

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def recipe(data: Path, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", racing(data))


def test_a_race_from_end_to_end_and_nothing_done_twice(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    first = run("race", recipe, "--out", out)
    assert first.exit_code == 0, first.output
    record = read_record(RaceRecord, out / "race.json")
    assert len(record.runs) == 4 and record.calibration is not None
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and record.name in page
    assert "Report: " in first.stdout and "training teacher old" in first.stderr and "run 4/4: " in first.stderr
    before = {path: path.stat().st_mtime_ns for path in out.glob("**/record.json")}
    assert len(before) == 5
    again = run("race", recipe, "--out", out, "--json")
    assert again.exit_code == 0 and "run 1/4" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.glob("**/record.json")} == before
    assert RaceRecord.model_validate_json(again.stdout) == read_record(RaceRecord, out / "race.json")
    drawn = run("report", out, "--json")
    assert drawn.exit_code == 0
    assert RaceRecord.model_validate_json(drawn.stdout).results == record.results
    told = run("report", out, "--quality", "0.999")
    assert told.exit_code == 0 and "To 99.9 % accuracy: not known" in told.stdout


def test_one_run_and_what_it_can_teach(run: Run, recipe: Path, tmp_path: Path) -> None:
    done = run("train", recipe, "distill=null", "train.steps=6", "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.stdout and str(tmp_path / "one") in done.stdout
    second = run("train", recipe, f"distill.teachers=[{tmp_path}/one]", "--out", tmp_path / "two", "--json")
    assert second.exit_code == 0, second.output
    record = RunRecord.model_validate_json(second.stdout)
    assert record == read_record(RunRecord, tmp_path / "two" / "record.json")
    assert [Path(teacher.name).name for teacher in record.teachers] == ["one"]
    listed = run("teachers", tmp_path / "one", tmp_path / "two", "--json")
    first, other = json.loads(listed.stdout)
    assert listed.exit_code == 0 and other["quality"] == record.quality
    assert first["model"] == "resnet8" and first["classes"] == 3 and first["parameters"] > 0
    assert first["forward_ms"] > 0 and first["bytes"] >= 4 * first["parameters"]
    table = run("teachers", tmp_path / "one")
    assert "resnet8" in table.stdout and "accuracy" in table.stdout


@pytest.fixture
def command(tmp_path: Path) -> str:
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = "--arm {arm} --budget {budget} --seed {seed} --record {record}"
    return f"{sys.executable} {tmp_path / 'program.py'} {arguments}"


def test_any_program_can_be_raced(run: Run, command: str, tmp_path: Path) -> None:
    done = run("race", "--cmd", command, "--budgets", "2,4,8", "--seeds", "0,1", "--out", tmp_path / "race", "--json")
    assert done.exit_code == 0, done.output
    record = RaceRecord.model_validate_json(done.stdout)
    assert len(record.runs) == 12 and record.command == command
    (result,) = [result for result in record.results if result.clock == "seconds"]
    assert result.speedup is not None and result.speedup.value == pytest.approx(2, rel=0.05)
    assert (tmp_path / "race" / "report.html").exists()


def test_a_program_that_fails_is_told_of_and_the_others_go_on(run: Run, command: str, tmp_path: Path) -> None:
    arguments = ["--arms", "baseline,broken", "--budgets", "2,4", "--seeds", "0", "--out", tmp_path / "race"]
    done = run("race", "--cmd", command, *arguments)
    assert done.exit_code == 5
    assert "out of luck" in done.stderr and "1 run failed; start the same command again to retry" in done.stderr
    record = read_record(RaceRecord, tmp_path / "race" / "race.json")
    assert len(record.runs) == 3 and [(f.arm, f.budget) for f in record.failures] == [("broken", 4.0)]
    assert (tmp_path / "race" / "report.html").exists()


def check_refused(result: Result, code: int, message: str) -> None:
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "headstart: " in result.stderr and message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("action", ["race", "train"])
@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("train.lrr=1", 2, "override 'train.lrr=1': train.lrr: unknown key; did you mean 'lr'?"),
        ("train.steps=0", 2, "train.steps: Input should be greater than 0"),
        ("model.name=resnet9", 2, "model.name='resnet9'"),
        ("data.name=nowhere", 3, "no data set 'nowhere' here"),
        ("distill.teachers=[odl]", 4, "odl: no such run folder or file"),
    ],
)
def test_mistakes_have_their_exit_codes(
    action: str, override: str, code: int, message: str, run: Run, recipe: Path, tmp_path: Path
) -> None:
    check_refused(run(action, recipe, override, "--out", tmp_path / "out"), code, message)
    assert not (tmp_path / "out" / "race.json").exists()


def test_a_teacher_of_other_classes_has_the_teachers_exit_code(run: Run, recipe: Path, tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher", classes=7)
    result = run("train", recipe, f"distill.teachers=[{teacher}]", "--out", tmp_path / "out")
    check_refused(result, 4, "has 7 classes, the student 3")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["race"], 2, "give a recipe to race, or a command with --cmd"),
        (["race", "r.yaml", "--cmd", "true"], 2, "give either a recipe or --cmd, not both"),
        (["race", "none.yaml"], 2, "none.yaml: the recipe cannot be read (No such file or directory)"),
        (["race", "--cmd", "x {record}", "--budgets", "1,two"], 2, "--budgets='1,two': give numbers with commas"),
        (["race", "--cmd", "x {record}"], 5, "race: no budgets"),
        (["race", "--cmd", "x", "--budgets", "1"], 5, "{record} is missing"),
        (["race", "--cmd", "x {record}", "--budgets", "1", "--arms", "one"], 5, "only one arm, 'one'"),
        (["report", "nowhere"], 1, "nowhere: holds no race.json; give a folder that headstart race has written"),
        (["race", "r.yaml", "--seeds", "0,1"], 2, "--seeds=0,1 is for --cmd; with a recipe write race.seeds=[0,1]"),
        (["race", "r.yaml", "--budgets", "4"], 2, "--budgets=4 is for --cmd; with a recipe write race.budgets=[4]"),
        (["race", "r.yaml", "--arms", "a,b"], 2, "--arms=a,b is for --cmd; with a recipe its arms are in race.arms"),
        (["teachers", "nowhere"], 4, "nowhere: no such run folder or file"),
    ],
)
def test_wrong_usage_is_refused(
    arguments: list[str], code: int, message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(run(*arguments), code, message)


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("train.batch_size=4000", 2, "train.batch_size=4000 is more than the 120 training samples"),
        ("distill.draw=2", 2, "draw=2 must be a number from 1 to 1 (the pool's size) or 'all'"),
        ("init.from=weights.pt", 4, "init.from=weights.pt: "),
    ],
)
def test_what_is_wrong_with_the_student_is_said_before_a_teacher_trains(
    override: str, code: int, message: str, run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.zeros(1)}, "weights.pt")
    teachers = {"old": {"train.steps": 16, "train.batch_size": 24, "train.seed": 100}}
    recipe = write_recipe(tmp_path / "recipe.yaml", racing(data, teachers=teachers))
    check_refused(run("train", recipe, override, "--out", "out"), code, message)
    assert not Path("out").exists()


def test_a_recipe_whose_targets_cannot_be_cached_trains_no_teacher(run: Run, recipe: Path, tmp_path: Path) -> None:
    result = run("cache", recipe, "data.augment.mixup=0.2", "--out", tmp_path / "out")
    check_refused(result, 2, "data.augment.mixup: a mixture's target")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_command_says_how_to_go_on(
    run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headstart.train.session.Session.train_step", interrupted)
    result = run("train", recipe, "distill=null", "--out", tmp_path / "out")
    check_refused(result, 130, "interrupted; start the same command again to go on where it was")


def test_help_shows_examples_that_survive_its_markup(run: Run) -> None:
    for action, example in (
        ("race", "race.seeds=[3,4,5]"),
        ("train", "distill.teachers=[runs/plain]"),
        ("", "headstart report runs/demo"),
    ):
        assert example in run(*action.split(), "--help").stdout.replace("\n", " ")


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "headstart", "report"], capture_output=True, text=True)
    assert done.returncode == 2 and "Usage: headstart report" in done.stderr
