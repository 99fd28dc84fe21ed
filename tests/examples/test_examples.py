"""The examples run as they are and as they were before headstart, which adds few lines; one of them is raced."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install headstart[text]")
pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="needs lightning: pip install headstart[lightning]")

from example_diffs import EXAMPLES, MARK, ROOT, diff, run, written
from headstart.cli import app
from headstart.distill import Teacher
from headstart.distill.targets.source import Keys, Target
from headstart.records import RaceRecord

SEARCH = EXAMPLES / "optuna_search.py"  # which has no training without headstart to compare with: it does both
NO_LOOPS = ("shared", "cache_from_endpoint", SEARCH.stem)
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.stem not in NO_LOOPS)
EACH = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
ADDED = 6  # lines at most; two more, with the import, where first weights come from the older model, too


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own for each test, and Python's path and arguments as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    yield
    sys.modules.pop("shared", None)


def test_there_is_one_for_every_loop() -> None:
    names = ["accelerate_loop", "lightning_module", "plain", "trainer_causal_lm", "trainer_images", "trainer_masked_lm"]
    assert [path.stem for path in SCRIPTS] == names


@EACH
def test_it_is_taught_by_what_it_trained_before(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, targets = [], Teacher.targets

    def noting(teacher: Teacher, inputs: object, keys: Keys | None = None) -> Target:
        asked.append(teacher.name)
        return targets(teacher, inputs, keys)

    monkeypatch.setattr(Teacher, "targets", noting)
    run(script, ["--steps", "3", "--save", "earlier.pt"])
    assert not asked
    sys.argv = [str(script), "--steps", "4", "--teacher", "earlier.pt", "--record", "record.json"]
    runpy.run_path(str(script), run_name="__main__")
    micro_batches = 2 if script.stem == "accelerate_loop" else 1
    assert len(asked) == 2 * micro_batches
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["seconds"] > 0
    assert (record["metric"], record["quality"] < 1) in (("accuracy", True), ("loss", False))


def test_a_search_is_made_from_nothing_and_with_the_best_trial_before_as_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="needs optuna")
    asked, logits = [], Teacher.targets

    def noting(teacher: Teacher, inputs: object, keys: Keys | None = None) -> Target:
        asked.append(id(teacher.module))
        return logits(teacher, inputs, keys)

    monkeypatch.setattr(Teacher, "targets", noting)
    sys.argv = [str(SEARCH), "--trials", "3", "--steps", "10", "--record", "found.json"]
    runpy.run_path(str(SEARCH), run_name="__main__")
    assert len(asked) == 2 * 3  # three of ten steps, in all trials but the first of the second search
    found = json.loads((tmp_path / "found.json").read_text())
    plain, recycled = found["from nothing"], found["recycling"]
    assert 0 < plain["seconds_to_target"] <= plain["seconds"] and 0 < plain["best"] <= 1
    reached = recycled["seconds_to_target"]
    assert (reached is None) == (recycled["best"] < plain["best"])


def test_the_time_to_a_quality_counts_all_trials_up_to_the_first_that_has_it() -> None:
    pytest.importorskip("optuna", reason="needs optuna")
    search = runpy.run_path(str(SEARCH))["Search"](1, 0, recycle=False)
    search.trials = [(1.0, 0.5), (2.0, 0.9), (4.0, 0.7)]
    assert [search.seconds_to(quality) for quality in (0.4, 0.6, 0.9, 0.95)] == [1.0, 3.0, 3.0, None]


@EACH
def test_headstart_adds_few_lines(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    added = [line for line in diff(text) if line.startswith("+")]
    assert 0 < len(added) <= ADDED + 2 * ("init_from" in text)
    assert all("headstart" not in line for line in text.splitlines() if not MARK.match(line) and "import" in line)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_pages_show_the_diffs_as_they_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == written(text), "run python tools/example_diffs.py"


@pytest.mark.slow
def test_one_is_raced_from_end_to_end(tmp_path: Path) -> None:
    """How long to distil is the arm; not at all is the baseline."""
    script, teacher = EXAMPLES / "plain.py", tmp_path / "earlier.pt"
    run(script, ["--steps", "30", "--save", str(teacher)])
    options = "--stop {arm} --steps {budget} --seed {seed} --record {record}"
    command = f"{sys.executable} {script} --teacher {teacher} {options}"
    arms = ["--arms", "0,0.5", "--budgets", "10,20", "--seeds", "0"]
    done = CliRunner().invoke(app, ["race", "--cmd", command, *arms, "--out", str(tmp_path / "race"), "--json"])
    assert done.exit_code == 0, done.output
    record = RaceRecord.model_validate_json(done.stdout)
    assert {(run.arm, run.budget) for run in record.runs} == {
        (arm, budget) for arm in ("0", "0.5") for budget in (10, 20)
    }
    assert {run.metric for run in record.runs} == {"accuracy"}
    assert (tmp_path / "race" / "report.html").exists()
