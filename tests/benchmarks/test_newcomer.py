"""A newcomer's first hour, with a repository whose make does next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import newcomer
import pytest

from headstart.errors import HeadstartError
from headstart.race import race

MAKEFILE = """
.venv/installed .venv/installed-dev:
\ttest -z "$$OMP_NUM_THREADS$$PYTHONPATH" && mkdir -p .venv && touch $@ && echo $@ $(PIP_FLAGS) >>{log}
demo:
\tmkdir runs && cp -r {race} runs/demo && echo demo >>{log}
test:
\t{test} && echo test >>{log}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def training(arm: str, budget: float, seed: int) -> dict[str, float]:
        return {"quality": 1 - (0.5 if arm == "new" else 1.0) / budget + 0.001 * seed, "seconds": budget}

    folder = tmp_path / "repository"
    folder.mkdir()
    race(training, arms=["old", "new"], budgets=[1, 2, 4, 8], seeds=[0, 1, 2], folder=tmp_path / "race")
    monkeypatch.setattr(newcomer, "ROOT", folder)
    return folder


def commit(repository: Path, *, test: str = "true") -> Path:
    """Write and commit the Makefile; where it logs what was made."""
    log = repository.parent / "log"
    (repository / "Makefile").write_text(MAKEFILE.format(log=log, race=repository.parent / "race", test=test))
    settings = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for words in (["init", "-q"], ["add", "."], [*settings, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=repository, check=True, capture_output=True)
    return log


def test_times_all_of_it_and_keeps_what_the_demo_said(repository: Path, tmp_path: Path) -> None:
    log = commit(repository)
    newcomer.main(["--pip-flags", "--index-url here", "--out", str(tmp_path)])
    installed = [f".venv/installed{part} --index-url here" for part in ("", "-dev")]
    assert log.read_text().splitlines() == [installed[0], "demo", installed[1], "test"]
    result = json.loads((tmp_path / "newcomer.json").read_text())
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    assert result["versions"]["git revision"] == head.stdout[:12]  # what was cloned, whatever happens here meanwhile
    figures = result["figures"]
    minutes = [f"{name}_minutes" for name in ("install", "demo", "install_for_tests", "test")]
    assert all(0 < figures[name]["value"] < 10 and figures[name]["unit"] == "min" for name in minutes)
    assert figures["demo_resolved"]["value"] == 1.0
    assert figures["demo_speedup"]["value"] == pytest.approx(2.0, rel=0.05) and figures["demo_speedup"]["n"] == 3


def test_busy_processes_last_as_long_as_it_does(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a part fails, whose last lines are told."""
    started = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **how: object) -> None:
            super().__init__(command, **how)  # type: ignore[call-overload]
            if "while True" in command[-1]:
                started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    commit(repository, test="echo one test is red && false")
    with pytest.raises(HeadstartError, match=r"make test failed with 2:\n(.|\n)*one test is red"):
        newcomer.main(["--busy", "2", "--out", str(tmp_path)])
    assert len(started) == 2 and all(process.returncode is not None for process in started)
    assert not (tmp_path / "newcomer-busy.json").exists()
    newcomer.main(["--busy", "3", "--there", "2", "--skip-test", "--out", str(tmp_path)])
    assert len(started) == 3
    with pytest.raises(HeadstartError, match="--there 2 are more than --busy 1"):
        newcomer.main(["--busy", "1", "--there", "2"])
    assert "test_minutes" not in json.loads((tmp_path / "newcomer-busy.json").read_text())["figures"]
    assert os.environ.get("OMP_NUM_THREADS")  # which no newcomer has
