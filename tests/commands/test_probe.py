"""`headstart teachers --probe`: the table, JSON, and what is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from headstart.cli import app
from headstart.commands.probe import probe_recipe, probe_table
from headstart.errors import RecipeError, TeacherError
from headstart.train.run import train
from tests.tiny import tiny_recipe, write_recipe, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """Runs `good` and `random`."""
    folder = tmp_path_factory.mktemp("teachers")
    train(tiny_recipe(tiny_data, train__steps=150, train__seed=7), folder / "good")
    torch.manual_seed(0)
    write_run(folder / "random")
    return folder


def test_the_teachers_that_a_recipe_describes(tiny_data: Path, folder: Path) -> None:
    recipe = tiny_recipe(tiny_data, teachers={"random": {}, "good": {}})
    steps: list[tuple[int, int]] = []
    looked, lines = probe_recipe(recipe, folder=folder, progress=lambda done, total: steps.append((done, total)))
    assert [teacher.name for teacher in looked.probe.ranked] == ["good", "random"]
    assert steps[-1][0] == steps[-1][1] and all(teacher.time for teacher in looked.probe.teachers)
    assert "  stop: auto" in lines
    console = Console(width=80, record=True)
    console.print(probe_table(looked.probe))
    told = console.export_text()
    assert "good" in told and "dropped" in told and "…" not in told


def test_the_command(tiny_data: Path, folder: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", tiny_recipe(tiny_data, distill={"teachers": [str(folder / "good")]}))
    found = CliRunner().invoke(app, ["teachers", "--probe", str(path), "--json"])
    assert found.exit_code == 0, found.output
    content = json.loads(found.stdout)
    assert content["ranking"] == [str(folder / "good")] and content["rows_of"].startswith("the first training batches")
    given = CliRunner().invoke(app, ["teachers", str(folder / "random"), "--probe", str(path)])
    assert given.exit_code == 0 and "no teacher is of use" in given.stdout


def test_what_is_not_there(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no teachers; give some: headstart teachers SPEC --probe RECIPE"):
        probe_recipe(tiny_recipe(tiny_data))
    with pytest.raises(TeacherError, match=r"old: the recipe trains this teacher first, .* with --trained"):
        probe_recipe(tiny_recipe(tiny_data, teachers={"old": {}}), folder=tmp_path)
    nothing = CliRunner().invoke(app, ["teachers"])
    assert nothing.exit_code == 2 and "give teachers, or --probe RECIPE" in nothing.output
