"""A race in parts, each in a process of its own, as the jobs of a batch system do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.errors import RaceError, RecipeError
from headstart.experiment.race import race_recipe
from headstart.experiment.race_parts import train_part, unfinished_parts
from headstart.records import RunRecord
from headstart.train.watcher import SilentWatcher
from tests.tiny import racing, tiny_recipe, weight_bits

RUNS = [f"runs/{arm}-b{budget}-s0" for arm in ("baseline", "distill") for budget in (4, 8)]


class Noting(SilentWatcher):
    def __init__(self) -> None:
        self.runs: list[str] = []

    def run_started(self, arm: str, budget: float, seed: int, index: int, total: int) -> None:
        self.runs.append(arm)


def test_parts_make_the_race_that_one_process_makes(tiny_data: Path, tmp_path: Path) -> None:
    recipe, folder = racing(tiny_data), tmp_path / "parts"
    parts = unfinished_parts(recipe, folder)
    assert parts[0] == "teachers/old" and sorted(parts[1:]) == sorted(RUNS) and not folder.exists()
    for number, part in enumerate(parts):
        train_part(recipe, folder, part)
        assert unfinished_parts(recipe, folder) == parts[number + 1 :]
    again = train_part(recipe, folder, parts[-1])
    assert isinstance(again, RunRecord)
    assert (again.arm, again.budget, again.seed) == ("baseline", 8.0, 0)

    watcher = Noting()
    judged = race_recipe(recipe, folder, watcher=watcher)
    assert watcher.runs == [] and judged.failures == [] and judged.calibration is not None
    whole = race_recipe(recipe, tmp_path / "whole")
    assert [run.quality for run in judged.runs] == [run.quality for run in whole.runs]
    for part in parts:
        assert weight_bits(folder / part) == weight_bits(tmp_path / "whole" / part)
        if part.startswith("runs"):
            definitions = [(place / part / "definition.json").read_text() for place in (folder, tmp_path / "whole")]
            assert definitions[0] == definitions[1]


def test_a_part_of_another_definition_is_refused_by_the_race(tiny_data: Path, tmp_path: Path) -> None:
    train_part(racing(tiny_data), tmp_path, "teachers/old")
    train_part(racing(tiny_data), tmp_path, "runs/distill-b4-s0")
    with pytest.raises(RaceError, match=r"'distill-b4-s0' was made with another definition: line \d+ of the recipe"):
        race_recipe(racing(tiny_data, distill={"teachers": ["old"], "weight": 0.5}), tmp_path)


def test_what_cannot_be_done_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    recipe = racing(tiny_data)
    with pytest.raises(RaceError, match="runs/other-b4-s0 is no part of this race; headstart race --plan lists"):
        train_part(recipe, tmp_path, "runs/other-b4-s0")
    with pytest.raises(RaceError, match="needs its teacher 'old', which is not trained yet: --only teachers/old first"):
        train_part(recipe, tmp_path, "runs/distill-b4-s0")
    with pytest.raises(RecipeError, match="the recipe has no race section"):
        unfinished_parts(tiny_recipe(tiny_data), tmp_path)
    assert not list(tmp_path.iterdir())
