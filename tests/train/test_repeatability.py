"""One seed, one result: run again, or killed and resumed, a training gives the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, read_record
from headstart.train.run import train
from headstart.train.state.checkpoint import checkpoints
from tests.tiny import tiny_recipe, weight_bits
from tests.train.dying import POINTS, train_until_killed

LOSSES = ("kl", "reverse_kl", "jsd", "mse", "dkd", "dist")
LEFT_BEHIND = {".lock", "recipe.yaml", "metrics.jsonl", "model.safetensors", "record.json"}


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def without_seconds(record: RunRecord) -> RunRecord:
    return record.model_copy(update={"seconds": 0.0, "teacher_seconds": None})


def check_a_killed_run(recipe: Recipe, killed: Path, point: str, whole: Path) -> None:
    """Train until killed, resume, and compare with a run of the same recipe that was not killed."""
    train_until_killed(recipe, killed, point)
    assert not (killed / "record.json").exists()
    record = train(recipe, killed)
    assert weight_bits(killed) == weight_bits(whole)
    assert metrics(killed) == metrics(whole)
    assert without_seconds(record) == without_seconds(read_record(RunRecord, whole / "record.json"))
    last = {"checkpoint-14.pt"} if recipe.train.first_cycle else set()
    assert {path.name for path in killed.iterdir()} == LEFT_BEHIND | last


@pytest.fixture(scope="module")
def distilled(tiny_data: Path, teachers: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe, and its run that was not killed."""
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 0.75, "ramp_down": 0.25})
    folder = tmp_path_factory.mktemp("distilled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        train(recipe, folder / "whole")
    return recipe, folder / "whole"


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_and_resumed_run_gives_the_same_bits_wherever_it_was_killed(
    point: str, distilled: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, whole = distilled
    check_a_killed_run(recipe, tmp_path, point, whole)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train__accumulate": 2},
        {"train__optimizer": "adamw", "train__lr": 0.01, "train__schedule": "cosine"},
        {"train__precision": "bf16", "train__label_smoothing": 0.1, "train__clip_norm": 1.0},
        {"train__steps": 14, "train__first_cycle": 2},  # killed in the middle of the second cycle
    ],
    ids=["plain", "accumulate", "adamw", "bf16", "cyclic"],
)
def test_a_killed_and_resumed_training_without_teachers_gives_the_same_bits(
    settings: dict[str, Any], tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(tiny_data, **settings)
    train(recipe, tmp_path / "whole")
    check_a_killed_run(recipe, tmp_path / "killed", "after the first checkpoint", tmp_path / "whole")


@pytest.mark.parametrize(("loss", "accumulate"), [(loss, 1 + index % 2) for index, loss in enumerate(LOSSES)])
def test_a_killed_and_resumed_training_gives_the_same_bits_with_every_loss(
    loss: str, accumulate: int, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    distill = {"teachers": teachers, "loss": loss, "every": 2, "stop": 1.0}
    recipe = tiny_recipe(tiny_data, train__accumulate=accumulate, distill=distill)
    train(recipe, tmp_path / "whole")
    check_a_killed_run(recipe, tmp_path / "killed", "after the first checkpoint", tmp_path / "whole")


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("loss", [None, "kl"])
def test_two_runs_with_one_seed_give_the_same_bits(
    loss: str | None, accumulate: int, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    distill = {"teachers": teachers, "loss": loss, "draw": "all"} if loss else None
    recipe = tiny_recipe(tiny_data, train__accumulate=accumulate, distill=distill)
    records = [train(recipe, tmp_path / name) for name in ("one", "two")]
    assert weight_bits(tmp_path / "one") == weight_bits(tmp_path / "two")
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")
    assert without_seconds(records[0]) == without_seconds(records[1])


def test_another_seed_gives_another_training(tiny_data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(tiny_recipe(tiny_data, train__seed=seed), tmp_path / str(seed))
    assert weight_bits(tmp_path / "0") != weight_bits(tmp_path / "1")


def test_a_finished_run_is_not_done_again(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data)
    first = train(recipe, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert train(recipe, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    assert not checkpoints(tmp_path)
