"""The short real trainings: which there are, and which figures are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import stop_runs

from headstart.records import RunRecord, StoppedRecord


def test_figures_are_those_of_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained: dict[str, tuple[int, Any]] = {}

    def run(name: str, folder: Path, steps: int, distill: Any = None, seed: int = 0) -> RunRecord:
        trained[name] = (steps, distill)
        stopped = StoppedRecord(step=20, end=21, total_steps=80, reason="passed") if name.endswith("auto") else None
        return RunRecord(quality=0.9, seconds=1.0, stopped=stopped)

    monkeypatch.setattr(stop_runs, "run", run)
    figures = stop_runs.figures_of(80, tmp_path)
    assert trained["none"] == (80, None) and trained["poor"] == (50, None)
    assert trained["poor-half"] == (80, {"teachers": [{"spec": str(tmp_path / "poor")}], "stop": 0.5})
    assert len(trained) == 3 + 9 and len(figures) == 3 + 9 + 3
    assert figures["stop.good"].value == 0.25 and figures["accuracy.poor-whole"].value == 0.9
