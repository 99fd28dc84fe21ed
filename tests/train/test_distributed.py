"""Two processes that train together: what they learn is what one process learns, and one of them writes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from headstart.distill.pool.draw import draw
from headstart.errors import HeadstartError, RecipeError
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, read_record
from headstart.train import ranks
from headstart.train.parallel import gathered
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, weight_bits, write_images, write_run
from tests.train.processes import run_together

LEFT_BEHIND = {".lock", "recipe.yaml", "metrics.jsonl", "model.safetensors", "record.json"}
# Micro-batches go into running statistics one after the other, processes' parts at once.
STATISTICS = ("num_batches_tracked", "running_mean", "running_var")
DISTILL = {"stop": 0.75, "ramp_down": 0.25}
# A low learning rate, so that sums in another order stay what they are: rounding, over 12 steps.
STEADY = {"train__lr": 0.02}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_equal_weights(one: Path, other: Path, *, tolerance: float = 2e-5) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if not name.endswith(STATISTICS):
            torch.testing.assert_close(second[name], value, rtol=1e-4, atol=tolerance)


def elsewhere_than(folder: Path) -> Callable[..., Any]:
    """What makes temporary files, by which all files are written, but not in a folder."""
    make = tempfile.mkstemp

    def mkstemp(**where: Any) -> Any:
        assert not Path(where["dir"]).is_relative_to(folder), "the second process writes"
        return make(**where)

    return mkstemp


def train_each(runs: Sequence[tuple[Recipe, Path]]) -> None:
    """Train several recipes; the second process is kept from writing a single file."""
    for recipe, folder in runs:
        if ranks.connect().is_main_process:
            train(recipe, folder)
        else:
            with mock.patch("tempfile.mkstemp", elsewhere_than(folder)):
                record = train(recipe, folder)
            assert record == read_record(RunRecord, folder / "record.json")


@pytest.fixture(scope="module")
def runs(tiny_data: Path, teachers: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a network with batch norm, by name: one process's micro-batches are what processes share."""
    folder = tmp_path_factory.mktemp("distributed")
    distill = {"teachers": teachers, **DISTILL}
    settings = {**STEADY, "distill": distill, "train__clip_norm": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        train(tiny_recipe(tiny_data, train__accumulate=2, **settings), folder / "one")
    together = {
        "ddp": tiny_recipe(tiny_data, **settings),
        "fsdp": tiny_recipe(tiny_data, train__sharding="fsdp", **settings),
        "per-rank": tiny_recipe(tiny_data, **{**settings, "distill": {**distill, "per_rank": True}}),
        "adamw": tiny_recipe(tiny_data, train__optimizer="adamw", train__accumulate=2, train__lr=1e-3),
        "adamw-fsdp": tiny_recipe(
            tiny_data, train__optimizer="adamw", train__accumulate=2, train__sharding="fsdp", train__lr=1e-3
        ),
    }
    run_together(train_each, [(recipe, folder / name) for name, recipe in together.items()])
    return folder


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_weights_are_those_of_one_process(name: str, runs: Path) -> None:
    check_equal_weights(runs / "one", runs / name)


def test_sharded_weights_are_those_of_replicas_with_micro_batches(runs: Path) -> None:
    check_equal_weights(runs / "adamw", runs / "adamw-fsdp")


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_work_is_that_of_one_process(name: str, runs: Path) -> None:
    one, other = (read_record(RunRecord, runs / each / "record.json") for each in ("one", name))
    assert (other.flops, other.teacher_flops) == (one.flops, one.teacher_flops)
    assert sorted(other.steps.values()) == sorted(one.steps.values())


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_metrics_are_means_written_once(name: str, runs: Path) -> None:
    one, other = metrics(runs / "one"), metrics(runs / name)
    assert [line["step"] for line in other] == [line["step"] for line in one]
    for line, expected in zip(other, one, strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert line["seconds"] >= 0


@pytest.mark.parametrize("name", ["ddp", "fsdp", "per-rank"])
def test_what_is_left_behind_is_what_one_process_leaves(name: str, runs: Path) -> None:
    assert {path.name for path in (runs / name).iterdir()} == LEFT_BEHIND


def test_other_draws_are_another_training(runs: Path) -> None:
    assert weight_bits(runs / "per-rank") != weight_bits(runs / "ddp")


def test_text_with_dropout_is_that_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")
    from tests.train.test_masked_lm import SETTINGS, recipe, write_text

    text = write_text(tmp_path / "text")

    def cut(**changes: Any) -> Recipe:
        return recipe(text, train={**SETTINGS["train"], "lr": 1e-3, **changes})

    train(cut(accumulate=2), tmp_path / "one")
    run_together(train_each, [(cut(), tmp_path / "ddp"), (cut(sharding="fsdp"), tmp_path / "fsdp")])
    for name in ("ddp", "fsdp"):
        check_equal_weights(tmp_path / "one", tmp_path / name, tolerance=1e-4)
        records = [read_record(RunRecord, tmp_path / each / "record.json") for each in ("one", name)]
        assert records[1].quality == pytest.approx(records[0].quality, rel=1e-4)
        assert records[1].losses == pytest.approx(records[0].losses, rel=1e-4)


def evaluate_and_step(recipes: Sequence[Recipe], folder: Path) -> None:
    for recipe in recipes:
        session = Session(recipe)
        found = session.evaluate()
        session.train_step(0)
        state = gathered(session.student)
        if ranks.is_main():
            statistics = {name: state[f"bn1.{name}"].tolist() for name in ("running_mean", "running_var")}
            result = {"quality": found.quality, **found.others, "rows": found.rows, **statistics}
            (folder / f"{recipe.train.sharding}-{ranks.count()}").write_text(json.dumps(result))


def test_evaluation_and_statistics_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """Of 61 images each process evaluates 31, and one of these does not count."""
    data = write_images(tmp_path / "images", test=61)
    recipes = [tiny_recipe(data, train__sharding=sharding) for sharding in ("none", "fsdp")]
    evaluate_and_step(recipes[:1], tmp_path)
    run_together(evaluate_and_step, recipes, tmp_path)
    one, *others = (json.loads((tmp_path / name).read_text()) for name in ("none-1", "none-2", "fsdp-2"))
    assert one["rows"] == 61
    for other in others:
        assert (other["rows"], other["quality"]) == (61, pytest.approx(one["quality"], abs=1e-12))
        assert other["held_out_loss"] == pytest.approx(one["held_out_loss"], rel=1e-5)
        # The mean of the parts' means is the batch's; of variances it is near it.
        assert other["running_mean"] == pytest.approx(one["running_mean"], abs=1e-6)
        assert other["running_var"] == pytest.approx(one["running_var"], rel=0.05)


def look_at_shards(recipe: Recipe) -> None:
    session = Session(recipe)
    session.train_step(0)
    parameters = list(session.student.parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters)
    held = sum(parameter.to_local().numel() for parameter in parameters if isinstance(parameter, DTensor))
    assert held < 0.7 * sum(parameter.numel() for parameter in parameters)
    for values in session.optimizer.state.values():
        assert isinstance(values["momentum_buffer"], DTensor)
    assert session.pool is not None
    teachers = [parameter for teacher in session.pool.live for parameter in teacher.module.parameters()]
    assert teachers and not any(isinstance(parameter, DTensor) for parameter in teachers)


def test_a_sharded_student_is_in_parts_and_its_teachers_are_whole(tiny_data: Path, teachers: list[str]) -> None:
    settings = {"train__sharding": "fsdp", "train__precision": "bf16", "distill": {"teachers": teachers}}
    run_together(look_at_shards, tiny_recipe(tiny_data, **settings))


def note_draws(recipe: Recipe, folder: Path) -> None:
    session = Session(recipe)
    assert session.pool is not None
    drawn = [session.pool.chosen(step) for step in range(40)]
    name = f"{recipe.distill is not None and recipe.distill.per_rank}-{os.environ['RANK']}"
    (folder / name).write_text(json.dumps(drawn))


def note_both_draws(recipes: Sequence[Recipe], folder: Path) -> None:
    for recipe in recipes:
        note_draws(recipe, folder)


def test_ranks_draw_the_same_teachers_or_each_its_own(tiny_data: Path, tmp_path: Path) -> None:
    pool = [str(write_run(tmp_path / f"teacher{number}")) for number in range(3)]
    recipes = [
        tiny_recipe(tiny_data, train__seed=3, distill={"teachers": pool, "per_rank": per_rank})
        for per_rank in (False, True)
    ]
    run_together(note_both_draws, recipes, tmp_path)
    drawn = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*-?")}
    assert drawn["False-0"] == drawn["False-1"] == drawn["True-0"]
    assert drawn["True-1"] != drawn["True-0"]
    for rank in range(2):
        assert drawn[f"True-{rank}"] == [list(draw(3, seed=3, step=step, rank=rank)) for step in range(40)]


def expect_refusal(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"train.batch_size=25 cannot be cut into 2 equal parts, 1 on each of 2 proc"):
        Session(recipe)


def test_a_batch_that_processes_cannot_share_is_refused(tiny_data: Path) -> None:
    run_together(expect_refusal, tiny_recipe(tiny_data, train__batch_size=25))


def train_on_a_disk_of_its_own(recipe: Recipe, folder: Path) -> None:
    with (
        mock.patch("headstart.train.state.run_folder._SEEN_WITHIN", 0.5),
        pytest.raises(HeadstartError, match=r"not all processes see what the first one writes there; give an --out on"),
    ):
        train(recipe, folder / os.environ["RANK"])


def test_a_run_folder_that_not_all_see_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    run_together(train_on_a_disk_of_its_own, tiny_recipe(tiny_data), tmp_path)


def test_an_engine_in_accelerates_configuration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match=r"asks for FSDP; a recipe shards its student with train.sharding=fsdp"):
        ranks.connect()


def step_once(recipe: Recipe, to: Path) -> None:
    session = Session(recipe)
    session.train_step(0)
    torch.save(session.student.state_dict(), to)


@pytest.mark.parametrize("setting", ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4", "ACCELERATE_DYNAMO_BACKEND=EAGER"])
def test_other_settings_in_accelerates_configuration_change_nothing(
    setting: str, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would divide the gradients, or give the weights other names. Accelerate reads them once a process."""
    recipe = tiny_recipe(tiny_data)
    run_together(step_once, recipe, tmp_path / "without", count=1)
    monkeypatch.setenv(*setting.split("="))
    run_together(step_once, recipe, tmp_path / "with", count=1)
    without, found = (torch.load(tmp_path / name) for name in ("without", "with"))
    assert list(found) == list(without)
    assert all(torch.equal(found[name], value) for name, value in without.items())


def arrive_late() -> None:
    ranks.connect()
    torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=0.5))  # of ordinary collectives
    if os.environ["RANK"] == "1":
        time.sleep(2)
    ranks.wait_for_slow_ones()


def test_a_machine_whose_cache_fills_slowly_is_waited_for() -> None:
    run_together(arrive_late)


def arrive_late_at_a_barrier() -> None:
    ranks.connect()
    torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=0.5))
    if os.environ["RANK"] == "1":
        time.sleep(2)
        return
    with pytest.raises(RuntimeError):
        ranks.wait_for_all()


def test_as_ordinary_collectives_would_not() -> None:
    run_together(arrive_late_at_a_barrier)
