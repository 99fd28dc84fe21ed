"""The pictures of losses and agreement: means of what the runs logged, and nothing that they did not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.records import RaceRecord
from headstart.report.pictures.training import training_pictures


def logged(race: RaceRecord, folder: Path, **fields: float) -> RaceRecord:
    """The race with metrics of its runs at 16 epochs: loss 8 / step + seed, distilled up to step 200."""
    runs = []
    for run in race.runs:
        place = folder / f"{run.arm}-{run.budget:g}-{run.seed}"
        runs.append(run.model_copy(update={"folder": place.name}))
        if run.budget == 16.0:
            lines: list[dict[str, Any]] = []
            for step in (100, 200, 400):
                line: dict[str, Any] = {"step": step, "seconds": 1.0, "loss": 8 / step + run.seed}
                if run.arm != "baseline" and step <= 200:
                    line |= {"loss": 99.0, "task_loss": 16 / step + run.seed, "distill_loss": 2.0, **fields}
                lines.append(line)
            place.mkdir()
            (place / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), "half a li"]))
    return race.model_copy(update={"runs": runs})


def curves(race: RaceRecord, folder: Path) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    pictures, _ = training_pictures(race, folder)
    return {
        picture.name: {str(line.get_label()): np.asarray(line.get_xydata()) for line in picture.figure.axes[0].lines}
        for picture in pictures
    }


def test_curves_are_means_over_the_seeds(race: RaceRecord, tmp_path: Path) -> None:
    drawn = curves(logged(race, tmp_path, agreement=0.75), tmp_path)
    assert list(drawn) == ["task-loss", "distill-loss", "agreement"]
    steps = np.array([100, 200, 400])
    # Three seeds add 0, 1 and 2; of `whole` the third run has failed.
    np.testing.assert_allclose(drawn["task-loss"]["baseline"], np.column_stack([steps, 8 / steps + 1]))
    task = np.array([16 / 100 + 1, 16 / 200 + 1, 8 / 400 + 1])
    np.testing.assert_allclose(drawn["task-loss"]["early"], np.column_stack([steps, task]))
    np.testing.assert_allclose(drawn["task-loss"]["whole"][:, 1], task - 0.5)
    assert list(drawn["distill-loss"]) == ["early", "whole"]
    np.testing.assert_allclose(drawn["agreement"]["early"], [[100, 75], [200, 75]])


def test_long_curves_are_thinned_by_means_of_neighbours(race: RaceRecord, tmp_path: Path) -> None:
    race = logged(race, tmp_path)
    lines = [json.dumps({"step": step, "loss": float(step)}) for step in range(1, 401)]
    for run in race.runs:
        if run.arm == "baseline" and run.budget == 16.0:
            (tmp_path / str(run.folder) / "metrics.jsonl").write_text("\n".join(lines))
    points = curves(race, tmp_path)["task-loss"]["baseline"]
    assert len(points) == 40
    np.testing.assert_allclose(points[:, 0], points[:, 1])
    np.testing.assert_allclose(points[0], [5.5, 5.5])


def test_steps_are_counted_in_whole_ones(race: RaceRecord, tmp_path: Path) -> None:
    race = logged(race, tmp_path)
    for path in tmp_path.glob("**/metrics.jsonl"):
        path.write_text("\n".join(json.dumps({"step": step, "loss": 1.0}) for step in range(1, 6)))
    (picture,) = training_pictures(race, tmp_path)[0]
    (axes,) = picture.figure.axes
    assert [tick for tick in axes.get_xticks() if tick % 1] == []


def test_what_was_not_logged_is_told(race: RaceRecord, tmp_path: Path) -> None:
    assert training_pictures(race, tmp_path)[0] == []
    pictures, missing = training_pictures(logged(race, tmp_path), tmp_path)
    assert [picture.name for picture in pictures] == ["task-loss", "distill-loss"]
    assert missing == ["Agreement of student and teacher is not drawn: the runs did not log it."]
    assert pictures[0].title == "Task loss during training, 16 epochs"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]\n3\n", b'{"step": "x", "loss": 1}', b'{"step": 1}'])
def test_a_file_of_something_else_is_passed_over(race: RaceRecord, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    runs = [run.model_copy(update={"folder": "."}) for run in race.runs]
    assert training_pictures(race.model_copy(update={"runs": runs}), tmp_path)[0] == []
