"""How long a race will still take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headstart.commands.forecast import Done, Outlook, Part, seconds_left, so_far
from headstart.race import Run, run_folder

ONE, TWO, OTHER = Run("plain", 2, 0), Run("plain", 4, 0), Run("mine", 4, 0)


def test_the_first_steps_tell() -> None:
    # A quarter of a budget of 2 took 3 s: 6 s a unit. 1.5 units of that run are left, and 4 of each of the others.
    assert seconds_left([], {ONE: Part(0.25, 3.0)}, [TWO, OTHER], 1) == pytest.approx(6 * (1.5 + 4 + 4))


def test_each_arm_has_its_rate() -> None:
    parts: dict[Run, Part | None] = {ONE: Part(0.5, 3.0), OTHER: Part(0.5, 10.0)}
    assert seconds_left([], parts, [TWO], 1) == pytest.approx(3 * 1 + 5 * 2 + 3 * 4)


def test_what_a_run_takes_beside_its_training_counts() -> None:
    done = [Done(ONE, training=8.0, whole=10.0)]
    assert seconds_left(done, {}, [TWO, OTHER], 1) == pytest.approx(2 * (4 * 4 + 2))


def test_workers_share_what_is_left_but_not_a_run() -> None:
    done = [Done(ONE, training=2.0, whole=2.0)]
    assert seconds_left(done, {}, [TWO, OTHER], 2) == pytest.approx(4)
    assert seconds_left(done, {}, [TWO], 2) == pytest.approx(4)


def test_nothing_is_known_before_anything_was_told() -> None:
    assert seconds_left([], {ONE: None}, [TWO], 1) is None
    assert seconds_left([Done(ONE, 1.0, 1.0)], {}, [], 1) == 0


def _write(folder: Path, run: Run, text: str) -> None:
    place = run_folder(folder, *run)
    place.mkdir(parents=True, exist_ok=True)
    (place / "metrics.jsonl").write_text(text)


def test_the_last_line_tells_how_far_a_run_is(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "total_steps": 80, "seconds": step / 10}) for step in range(0, 61, 2)]
    _write(tmp_path, ONE, "\n".join(lines) + "\n")
    assert so_far(tmp_path, ONE) == Part(0.75, 6.0)


@pytest.mark.parametrize(
    "text", ["", "\n", '{"step": 3', '{"step": 3}', "[]", '{"step": 3, "total_steps": 0, "seconds": 1}']
)
def test_what_tells_nothing_is_passed_over(tmp_path: Path, text: str) -> None:
    _write(tmp_path, ONE, text)
    assert so_far(tmp_path, ONE) is None
    assert so_far(tmp_path, TWO) is None  # no file at all


def test_what_an_earlier_start_finished_is_not_ahead(tmp_path: Path) -> None:
    _write(tmp_path, TWO, "")
    (run_folder(tmp_path, *TWO) / "record.json").write_text("{}")
    outlook = Outlook([ONE, TWO, OTHER], 1, tmp_path)
    assert outlook.left() is None
    outlook.started(ONE)
    assert outlook.left() is None
    _write(tmp_path, ONE, '{"step": 5, "total_steps": 10, "seconds": 3}')
    assert outlook.left() == pytest.approx(3 * 1 + 3 * 4)
