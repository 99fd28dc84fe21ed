"""Races of small functions: what is run, kept, refused and reported."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.errors import HeadstartError, RaceError
from headstart.race import Definition, Run, Silent, race, run_folder, run_once
from headstart.records import (
    Arm,
    Calibration,
    Failure,
    RaceRecord,
    RunRecord,
    StepTime,
    read_record,
    write_record,
)

Called = tuple[str, float, int]


class Training:
    """A training that counts its calls, and goes wrong where told."""

    def __init__(self, wrong: dict[Called, Any] | None = None) -> None:
        self.calls: list[Called] = []
        self.wrong = wrong or {}

    def __call__(self, arm: str, budget: float, seed: int) -> dict[str, Any]:
        self.calls.append((arm, budget, seed))
        answer = self.wrong.get((arm, budget, seed))
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        speed = 2 if arm == "fast" else 1
        return {"quality": 1 - 1 / (speed * budget), "seconds": budget, "steps": {"plain": int(10 * budget)}}


def go(training: Callable[..., Any], folder: Path, **changed: Any) -> RaceRecord:
    small: dict[str, Any] = {"arms": ["plain", "fast"], "budgets": [1, 2], "seeds": [0, 1]}
    return race(training, folder=folder, **{**small, **changed})


def names(runs: Iterable[RunRecord | Failure]) -> list[Called]:
    return [(run.arm, run.budget, run.seed) for run in runs]


def test_a_race_from_end_to_end(tmp_path: Path) -> None:
    training = Training()
    record = go(training, tmp_path, name="mine", budget_unit="epochs", environment={"python": "3"})
    assert training.calls == names(record.runs)
    assert training.calls[:4] == [("plain", 1, 0), ("fast", 1, 0), ("fast", 2, 0), ("plain", 2, 0)]
    assert read_record(RaceRecord, tmp_path / "race.json") == record
    assert (record.baseline, record.primary, record.name, record.budget_unit) == ("plain", "fast", "mine", "epochs")
    assert record.environment == {"python": "3"}
    assert record.date.startswith("20")
    speedup = record.results[0].speedup
    assert speedup is not None
    assert speedup.value == pytest.approx(2.0)
    for run in record.runs:
        home = run_folder(tmp_path, run.arm, run.budget, run.seed)
        assert read_record(RunRecord, home / "record.json") == run
        assert run.folder is not None
        assert tmp_path / run.folder == home


def test_a_function_may_return_a_record_and_gets_budgets_as_given(tmp_path: Path) -> None:
    kinds = set()

    def training(arm: str, budget: float, seed: int) -> RunRecord:
        kinds.add(type(budget))
        return RunRecord(quality=0.5, seconds=1, arm="its own", metric="accuracy")

    record = go(training, tmp_path)
    assert kinds == {int}
    assert {(run.arm, run.metric) for run in record.runs} == {("plain", "accuracy"), ("fast", "accuracy")}


def test_finished_runs_are_never_redone(tmp_path: Path) -> None:
    first = go(Training(), tmp_path)
    again = Training()
    assert go(again, tmp_path) == first
    assert again.calls == []


def test_arms_budgets_and_seeds_may_be_added(tmp_path: Path) -> None:
    go(Training(), tmp_path)
    more = Training()
    record = go(more, tmp_path, arms=["plain", "fast", "new"], budgets=[1, 2, 4], seeds=[0, 1, 2])
    assert len(record.runs) == 27
    assert len(more.calls) == 27 - 8
    less = Training()
    assert len(go(less, tmp_path, budgets=[2]).runs) == 4
    assert less.calls == []


def test_each_of_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    training = Training()
    with pytest.raises(RaceError, match=r"started as 8 processes, .* start it once, .*torchrun"):
        go(training, tmp_path)
    assert not training.calls
    assert not list(tmp_path.iterdir())


def test_an_interrupted_race_goes_on(tmp_path: Path) -> None:
    stopped = Training({("fast", 2, 0): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        go(stopped, tmp_path)
    kept = read_record(RaceRecord, tmp_path / "race.json")
    assert names(kept.runs) == stopped.calls[:-1]
    assert kept.results[0].status == "at least", "what is there is judged"
    rest = Training()
    record = go(rest, tmp_path)
    assert len(record.runs) == 8
    assert rest.calls[0] == ("fast", 2, 0)
    assert len(rest.calls) == 8 - 2


def test_a_killed_race_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from headstart.race import race\n"
        "def train(arm, budget, seed):\n"
        "    return os.kill(os.getpid(), 9) if budget == 2 else {'quality': 1, 'seconds': 1}\n"
        "race(train, arms=['plain', 'fast'], budgets=[1, 2], seeds=[0, 1], folder=sys.argv[1])\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    rest = Training()
    assert len(go(rest, tmp_path).runs) == 8
    assert len(rest.calls) == 8 - 2


def test_a_record_that_a_training_left_itself_is_not_a_finished_run(tmp_path: Path) -> None:
    write_record(RunRecord(quality=0, seconds=1), run_folder(tmp_path, "plain", 1, 0) / "record.json")
    training = Training()
    go(training, tmp_path)
    assert len(training.calls) == 8


def test_failed_runs_are_reported_and_tried_again(tmp_path: Path) -> None:
    wrong: dict[Called, Any] = {("fast", 1, 0): RaceError("no luck"), ("fast", 2, 1): ZeroDivisionError("by nought")}
    record = go(Training(wrong), tmp_path)
    assert len(record.runs) == 6
    assert {name: f.message for name, f in zip(names(record.failures), record.failures, strict=True)} == {
        ("fast", 1, 0): "no luck",
        ("fast", 2, 1): f"ZeroDivisionError: by nought (traceback in {tmp_path / 'runs/fast-b2-s1/traceback.txt'})",
    }
    details = tmp_path / "runs/fast-b2-s1/traceback.txt"
    assert "raise answer" in details.read_text()
    again = Training()
    record = go(again, tmp_path)
    assert (len(record.runs), record.failures) == (8, [])
    assert sorted(again.calls) == sorted(wrong)
    assert not details.exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (17, "what the function returned is of type int; give a RunRecord"),
        ({"seconds": 1}, "lacks 'quality', which is required: the held-out metric"),
        ({"quality": 1}, "lacks 'seconds', which is required: the time spent training"),
        ({"quality": float("nan"), "seconds": 1}, "quality: Input should be a finite number, not nan"),
        ({"quality": 1, "seconds": -1}, "seconds: Input should be greater than or equal to 0, not -1"),
        ({"quality": 1, "seconds": 0}, "seconds is 0.0; give the time spent training"),
        ({"quality": 1, "seconds": 1, "memory": 3}, "memory: a record has no such field; there is quality, seconds"),
        (
            {"quality": 1, "seconds": 1, "metric": "loss"},
            "the run measured 'loss' .*, earlier runs of the race 'quality'",
        ),
    ],
)
def test_unusable_answers_fail_their_run_only(tmp_path: Path, answer: object, message: str) -> None:
    record = go(Training({("fast", 1, 0): answer}), tmp_path)
    assert len(record.runs) == 7
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(record.failures[0].message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "lr: 1\nsteps: 2"}, r"line 2 of the recipe was 'steps: 1', is now 'steps: 2'"),
        ({"recipe": "lr: 1\nsteps: 1\nmore: 1"}, r"line 3 of the recipe was not there, is now 'more: 1'"),
        ({"recipe": "", "command": "train"}, "command was '', is now 'train'"),
        ({"budget_unit": "steps"}, "budget_unit was 'epochs', is now 'steps'"),
        ({"arms": ["plain", "fast"]}, r"'fast-b1-s0' .* override distill\.weight was 0\.5, is now not set"),
        (
            {"arms": ["plain", Arm(name="fast", overrides={"distill.weight": 0.9})]},
            r"override distill\.weight was 0\.5, is now 0\.9.*Give the changed race a new folder",
        ),
    ],
)
def test_a_changed_definition_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    arms = ["plain", Arm(name="fast", overrides={"distill.weight": 0.5, "widths": (1, 2)})]
    definition: dict[str, Any] = {"arms": arms, "recipe": "lr: 1\nsteps: 1", "budget_unit": "epochs"}
    go(Training(), tmp_path, **definition)
    assert len(go(Training(), tmp_path, **definition).runs) == 8
    training = Training()
    with pytest.raises(RaceError, match=message):
        go(training, tmp_path, **{**definition, **changed})
    assert training.calls == []


def test_a_changed_definition_is_fine_while_nothing_has_finished(tmp_path: Path) -> None:
    nothing = Training({(arm, b, s): ValueError() for arm in ("plain", "fast") for b in (1, 2) for s in (0, 1)})
    assert go(nothing, tmp_path, recipe="wrong").runs == []
    assert len(go(Training(), tmp_path, recipe="right").runs) == 8


def test_the_primary_arm_is_named_before_the_race(tmp_path: Path) -> None:
    arms = ["plain", "fast", "late"]
    go(Training(), tmp_path, arms=arms)
    with pytest.raises(RaceError, match="the primary arm was 'fast' when its runs were made, and is now 'late'"):
        go(Training(), tmp_path, arms=arms, primary="late")
    with pytest.raises(RaceError, match="the baseline was 'plain'"):
        go(Training(), tmp_path, arms=arms, baseline="late")


def test_a_corrupt_record_is_named(tmp_path: Path) -> None:
    go(Training(), tmp_path)
    path = run_folder(tmp_path, "fast", 1, 0) / "record.json"
    path.write_text("{")
    with pytest.raises(HeadstartError, match=r"fast-b1-s0/record\.json"):
        go(Training(), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    training = Training()
    with pytest.raises(RaceError, match=r"file: cannot be written"):
        go(training, tmp_path / "file")
    assert training.calls == []


MADE_OF = Definition(budget_unit="budget")
CALIBRATION = Calibration(kinds={"plain": StepTime(seconds=0.5)})


def test_calibration_comes_after_the_runs_and_is_kept(tmp_path: Path) -> None:
    training, calls = Training(), []

    def calibrate() -> Calibration:
        calls.append(len(training.calls))
        return CALIBRATION

    record = go(training, tmp_path, calibrate=calibrate)
    assert calls == [8]
    assert (record.calibration, record.headline_clock) == (CALIBRATION, "calibrated")
    assert go(training, tmp_path, calibrate=calibrate) == record
    assert go(training, tmp_path) == record
    assert calls == [8], "a complete race keeps its calibration"
    go(training, tmp_path, calibrate=calibrate, seeds=[0, 1, 2])
    assert calls == [8, 12]


def test_runs_that_other_jobs_did_since_are_calibrated_too(tmp_path: Path) -> None:
    """All runs are there when the race starts, but its calibration is from before the new arm."""
    go(Training(), tmp_path, calibrate=lambda: CALIBRATION)
    for budget in (1, 2):
        for seed in (0, 1):
            answer = {"quality": 0.5, "seconds": 1, "steps": {"new": 4}}
            run_once(Training({("new", budget, seed): answer}), tmp_path, Run("new", budget, seed), MADE_OF)
    both = Calibration(kinds={**CALIBRATION.kinds, "new": StepTime(seconds=0.25)})
    record = go(Training(), tmp_path, arms=["plain", "fast", "new"], calibrate=lambda: both)
    assert (record.calibration, record.headline_clock) == (both, "calibrated")


@pytest.mark.parametrize("error", [HeadstartError("too noisy"), ValueError("too noisy")])
def test_a_failed_calibration_keeps_the_race(tmp_path: Path, error: Exception) -> None:
    def calibrate() -> Calibration:
        raise error

    record = go(Training(), tmp_path, calibrate=calibrate)
    assert record.calibration_failure.endswith("too noisy")
    assert (record.calibration, record.headline_clock, len(record.runs)) == (None, "seconds", 8)
    again = go(Training(), tmp_path, calibrate=lambda: CALIBRATION)
    assert (again.calibration, again.calibration_failure) == (CALIBRATION, "")


def test_the_listener_hears_it_all(tmp_path: Path) -> None:
    heard: list[Any] = []

    class Ear(Silent):
        def run_started(self, arm: str, budget: float, seed: int, index: int, total: int) -> None:
            heard.append((arm, budget, seed, index, total))

        def run_finished(self, record: RunRecord) -> None:
            assert read_record(RunRecord, run_folder(tmp_path, record.arm, record.budget, record.seed) / "record.json")
            heard.append("finished")

        def run_failed(self, failure: Failure) -> None:
            heard.append(failure.message)

        def calibrating(self) -> None:
            heard.append("calibrating")

    options: dict[str, Any] = {"seeds": [0], "listener": Ear(), "calibrate": lambda: CALIBRATION}
    go(Training({("fast", 2, 0): RaceError("no")}), tmp_path, **options)
    assert heard == [
        *[("plain", 1, 0, 1, 4), "finished", ("fast", 1, 0, 2, 4), "finished"],
        *[("fast", 2, 0, 3, 4), "no", ("plain", 2, 0, 4, 4), "finished", "calibrating"],
    ]
    heard.clear()
    go(Training(), tmp_path, **options)
    assert heard == [("fast", 2, 0, 4, 4), "finished", "calibrating"]


def test_race_json_is_plain_json(tmp_path: Path) -> None:
    go(Training(), tmp_path)
    written = json.loads((tmp_path / "race.json").read_text())
    assert written["results"][0]["arm"] == "fast"


def test_headstart_race_is_callable_once_the_package_is_imported(tmp_path: Path) -> None:
    package = sys.modules["headstart.race"]
    assert callable(package)
    assert len(package(Training(), arms=["a", "b"], budgets=[1], seeds=[0], folder=tmp_path).runs) == 2
    assert callable(headstart.race)


def test_workers_run_side_by_side_and_give_the_same_race(tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=300)

    def meet(arm: str, budget: float, seed: int) -> dict[str, Any]:
        meeting.wait()  # nobody gets past it alone
        return Training()(arm, budget, seed)

    side_by_side = go(meet, tmp_path / "two", workers=2)
    alone = go(Training(), tmp_path / "one")
    assert names(side_by_side.runs) == names(alone.runs)
    assert side_by_side.results == alone.results


def test_workers_keep_what_is_finished_when_one_run_is_interrupted(tmp_path: Path) -> None:
    interrupted = Training({("fast", 1, 0): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        go(interrupted, tmp_path, workers=2)
    again = Training()
    go(again, tmp_path)
    assert ("fast", 1, 0) in again.calls
    assert len(again.calls) + len(interrupted.calls) == 8 + 1


def test_no_workers(tmp_path: Path) -> None:
    with pytest.raises(RaceError, match="workers=0 runs nothing; give 1 or more"):
        go(Training(), tmp_path, workers=0)


def test_a_race_of_a_recipe_may_be_started_by_another_command(tmp_path: Path) -> None:
    go(Training(), tmp_path, recipe="lr: 1", command="headstart race a.yaml --out here")
    again = Training()
    record = go(again, tmp_path, recipe="lr: 1", command="headstart race a.yaml --out there")
    assert again.calls == [] and record.command.endswith("there")
