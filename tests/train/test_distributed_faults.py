"""Processes that train together and are killed, asked to leave, or come back in another number."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from headstart.errors import Preempted
from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.state.checkpoint import checkpoints, save_checkpoint
from tests.tiny import tiny_recipe, weight_bits
from tests.train.processes import end_codes, run_together, start_together
from tests.train.test_distributed import check_equal_weights

PREEMPTED = 75
SHARDING = pytest.mark.parametrize("sharding", ["none", "fsdp"])


@pytest.fixture(scope="module")
def whole(tiny_data: Path, teachers: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Recipes by sharding, and the folder of their runs by two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    recipes = {
        sharding: tiny_recipe(tiny_data, train__sharding=sharding, train__lr=0.02, distill={"teachers": teachers})
        for sharding in ("none", "fsdp")
    }
    run_together(train_all, [(recipe, folder / name) for name, recipe in recipes.items()])
    return {"folder": folder, **recipes}


def train_all(runs: list[tuple[Recipe, Path]]) -> None:
    for recipe, folder in runs:
        train(recipe, folder)


def kill_at(step: int, rank: int) -> None:
    """Let one process be killed before a step, wherever the others are then."""
    train_step = Session.train_step

    def dying(self: Session, number: int) -> Any:
        if number == step and os.environ.get("RANK") == str(rank):
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, number)

    mock.patch.object(Session, "train_step", dying).start()


def train_until_killed(recipe: Recipe, folder: Path, step: int) -> None:
    kill_at(step, rank=1)
    train(recipe, folder)


def be_killed(recipe: Recipe, folder: Path, step: int) -> None:
    """Two processes, of which the second is killed, as the first one notices."""
    codes = end_codes(start_together(train_until_killed, recipe, folder, step))
    assert codes[1] == -signal.SIGKILL and codes[0] != 0
    assert not (folder / "record.json").exists()


@SHARDING
def test_killed_and_resumed_processes_give_the_same_bits(sharding: str, whole: dict[str, Any], tmp_path: Path) -> None:
    be_killed(whole[sharding], tmp_path, step=9)
    assert [path.stem for path in checkpoints(tmp_path)] == ["checkpoint-8", "checkpoint-4"]
    run_together(train, whole[sharding], tmp_path)
    assert weight_bits(tmp_path) == weight_bits(whole["folder"] / sharding)
    assert not checkpoints(tmp_path)


def damage(checkpoint: Path) -> None:
    """Change a few bytes in the middle of a checkpoint's file, or of the first one of several."""
    path = sorted(checkpoint.glob("*.distcp"))[0] if checkpoint.is_dir() else checkpoint
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


def train_noting_warnings(recipe: Recipe, folder: Path, notes: Path) -> None:
    logging.basicConfig(filename=notes / os.environ["RANK"], level=logging.WARNING, format="%(message)s")
    train(recipe, folder)


@SHARDING
def test_a_damaged_checkpoint_gives_way_to_the_one_before(sharding: str, whole: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    be_killed(whole[sharding], folder, step=9)
    newest = checkpoints(folder)[0]
    damage(newest)
    run_together(train_noting_warnings, whole[sharding], folder, tmp_path)
    assert f"{newest}: cannot be read (" in (tmp_path / "0").read_text()
    assert weight_bits(folder) == weight_bits(whole["folder"] / sharding)


@SHARDING
def test_one_process_goes_on_where_two_were_killed(sharding: str, whole: dict[str, Any], tmp_path: Path) -> None:
    """With twice as many micro-batches: the same batches, cut as before."""
    recipe = whole[sharding]
    be_killed(recipe, tmp_path, step=9)
    train(recipe.model_copy(update={"train": recipe.train.model_copy(update={"accumulate": 2})}), tmp_path)
    check_equal_weights(whole["folder"] / sharding, tmp_path)


def be_preempted(recipe: Recipe, folder: Path, last: int) -> None:
    """Train; the second process, or the only one, gets SIGTERM after a step."""

    def ask(step: int, total_steps: int, loss: float) -> None:
        if step == last and os.environ.get("RANK", "1") == "1":
            signal.raise_signal(signal.SIGTERM)

    try:
        train(recipe, folder, progress=ask, preemptible=True)
    except Preempted as error:
        assert "the same command goes on from there" in str(error)
        sys.exit(error.exit_code)


@SHARDING
def test_one_process_that_is_asked_to_leave_makes_all_leave(
    sharding: str, whole: dict[str, Any], tmp_path: Path
) -> None:
    assert end_codes(start_together(be_preempted, whole[sharding], tmp_path, 6)) == [PREEMPTED] * 2
    assert checkpoints(tmp_path)[0].stem == "checkpoint-7"
    run_together(train, whole[sharding], tmp_path)
    assert weight_bits(tmp_path) == weight_bits(whole["folder"] / sharding)


def leave_slowly(recipe: Recipe, folder: Path) -> None:
    """As `be_preempted`, with a disk that takes its time; whoever has left finds the checkpoint."""

    def slowly(*what: Any) -> None:
        time.sleep(1)
        save_checkpoint(*what)

    mock.patch("headstart.train.state.resume.save_checkpoint", slowly).start()
    try:
        be_preempted(recipe, folder, 6)
    except SystemExit:
        assert (folder / "checkpoint-7.pt").exists()
        raise


def test_no_process_leaves_before_the_checkpoint_is_written(whole: dict[str, Any], tmp_path: Path) -> None:
    """Or torchrun would end the one that writes."""
    assert end_codes(start_together(leave_slowly, whole["none"], tmp_path)) == [PREEMPTED] * 2


def test_a_run_that_is_asked_to_leave_comes_back(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        be_preempted(recipe, tmp_path / "left", last=6)
    assert left.value.code == PREEMPTED
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in checkpoints(tmp_path / "left")] == ["checkpoint-6.pt", "checkpoint-4.pt"]
    for name in ("left", "whole"):
        train(recipe, tmp_path / name)
    assert weight_bits(tmp_path / "left") == weight_bits(tmp_path / "whole")
    steps = [json.loads(line)["step"] for line in (tmp_path / "left" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(2, 13, 2))
