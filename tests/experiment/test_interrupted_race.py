"""A race that is interrupted: trainings leave by a checkpoint, nothing is called a failure; one race at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headstart.recipe.race_section import Race
from tests.tiny import tiny_recipe, write_recipe

ENDLESS = 100_000  # steps: still under way when the signal comes
_PATIENCE = 300.0  # seconds, for machines that do other work too


@pytest.fixture
def recipe(tiny_data: Path, tmp_path: Path) -> Path:
    race = Race.model_validate(
        {
            "budgets": [ENDLESS],
            "seeds": [0],
            "primary": "slower",
            "arms": {"baseline": {}, "slower": {"set": {"train.lr": 0.01}}},
        }
    )
    made = tiny_recipe(tiny_data, train__steps=ENDLESS, train__log_every=1, train__checkpoint_every=ENDLESS).model_copy(
        update={"race": race}
    )
    return write_recipe(tmp_path / "recipe.yaml", made)


@contextmanager
def racing(recipe: Path, out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "headstart", "race", str(recipe), *more, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(out: Path, pattern: str, count: int) -> None:
    end = time.monotonic() + _PATIENCE
    while len(list(out.glob(pattern))) < count:
        assert time.monotonic() < end, f"{pattern} never came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "workers"), [(signal.SIGTERM, 75, 2), (signal.SIGINT, 130, 1)])
def test_what_is_in_training_leaves_by_a_checkpoint(
    number: int, code: int, workers: int, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "race"
    with racing(recipe, out, "--workers", str(workers)) as process:
        wait_for(out, "runs/*/metrics.jsonl", workers)
        process.send_signal(number)
        _, told = process.communicate(timeout=_PATIENCE)
    assert process.returncode == code, told
    assert len(list(out.glob("runs/*/checkpoint-*.pt"))) == workers, told
    assert json.loads((out / "race.json").read_text())["failures"] == []


@pytest.mark.slow
def test_so_does_a_teacher(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    taught = ["teachers.old={train.seed: 7}", "race.arms.slower.set={distill.teachers: [old]}"]
    with racing(recipe, out, *taught) as process:
        wait_for(out, "teachers/old/metrics.jsonl", 1)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 75, told
    assert list(out.glob("teachers/old/checkpoint-*.pt"))


@pytest.mark.slow
def test_a_second_race_in_the_folder_is_refused(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "race"
    with racing(recipe, out) as first:
        wait_for(out, "runs/*/metrics.jsonl", 1)
        with racing(recipe, out) as second:
            _, told = second.communicate(timeout=_PATIENCE)
        assert first.poll() is None
    assert second.returncode == 5
    assert "another race goes on in this folder" in told
