"""The benchmark of killed trainings, in short; and that it sees what does not resume rightly."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import kill_resume
import pytest

from headstart.records import read_record
from results_file import Result

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")


@pytest.mark.slow
def test_counts_trials_and_writes_the_result(tmp_path: Path) -> None:
    kill_resume.main(["--trials", "2", "--steps", "12", "--out", str(tmp_path)])
    figures = read_record(Result, tmp_path / "kill-resume.json").figures
    assert figures["trials"].value == figures["identical"].value == 2
    assert figures["kills"].value >= 2


class Process:
    """A training that is alive until it is killed, or finishes with what it is given."""

    exitcode = 0

    def __init__(self, folder: Path) -> None:
        self.folder, self.alive = folder, True

    def join(self, timeout: float | None = None) -> None:
        self.alive = self.alive and timeout is not None

    def is_alive(self) -> bool:
        return self.alive

    def kill(self) -> None:
        self.alive = False


@pytest.mark.parametrize("found", ["same", "other"])
def test_only_the_same_outcome_is_identical(found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_resume, "start", lambda recipe, folder: Process(folder))
    monkeypatch.setattr(kill_resume, "outcome", lambda folder: found)
    subject: Any = kill_resume.Subject(None, "same", 0.1)  # type: ignore[arg-type]
    counts = kill_resume.Counts()
    kill_resume.trial(subject, tmp_path, random.Random(0), counts)
    assert counts.trials == 1 and counts.kills >= 1
    assert counts.identical == (found == "same")


def test_no_trial_begins_when_there_was_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject: Any = kill_resume.Subject(None, "same", 0.1)  # type: ignore[arg-type]
    monkeypatch.setattr(kill_resume, "undisturbed", lambda *_: subject)
    monkeypatch.setattr(kill_resume, "start", lambda recipe, folder: Process(folder))
    monkeypatch.setattr(kill_resume, "outcome", lambda folder: "same")
    for enough, trials in ((0.0, 2), (3600.0, 5)):
        counts = kill_resume.measure(
            tmp_path / str(trials), trials=5, steps=8, seed=0, deterministic=False, enough=enough
        )
        assert counts.trials == counts.identical == trials


def test_weights_and_metrics_are_part_of_the_outcome_and_seconds_are_not(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def write(name: str, weight: float, loss: float, seconds: float) -> str:
        folder = tmp_path / name
        folder.mkdir()
        save_file({"weight": torch.tensor([weight])}, folder / "model.safetensors")
        (folder / "metrics.jsonl").write_text(f'{{"step": 2, "loss": {loss}, "seconds": {seconds}}}\n')
        return kill_resume.outcome(folder)

    one = write("one", 1.0, 0.5, 3.0)
    assert write("slower", 1.0, 0.5, 4.0) == one
    assert write("other weight", 1.0000001, 0.5, 3.0) != one
    assert write("other loss", 1.0, 0.6, 3.0) != one
