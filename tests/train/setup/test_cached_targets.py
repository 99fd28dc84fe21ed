"""Caching a recipe's targets, and runs that read them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headstart.cache import Keep
from headstart.cache.reader import CacheFile
from headstart.distill import Teacher
from headstart.errors import HeadstartError, RecipeError, TeacherError
from headstart.experiment.calibrate import calibrate
from headstart.experiment.fill_cache import cache_recipe
from headstart.experiment.train_teachers import teacher_recipes
from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, read_record
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.setup.cached_targets import data_settings
from tests.tiny import tiny_recipe, write_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def recipe(data: Path, teachers: list[str], /, **overrides: Any) -> Recipe:
    """Distils on steps 0 to 8 of 12; 5 steps an epoch."""
    return tiny_recipe(data, **{"distill__teachers": teachers, "distill__stop": 0.7, **overrides})


def result(recipe: Recipe, folder: Path) -> tuple[RunRecord, dict[str, torch.Tensor], list[dict[str, Any]]]:
    record = train(recipe, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return record, load_file(folder / "model.safetensors"), lines


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def no_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a teacher ran")

    monkeypatch.setattr(Teacher, "targets", refuse)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train__precision": "bf16", "train__accumulate": 2},
        {"distill__draw": "all", "distill__loss": "mse", "distill__every": 2},
    ],
    ids=["plain", "bf16 in micro-batches", "all teachers, every second step"],
)
def test_a_run_on_full_targets_is_the_online_run(
    options: dict[str, Any], tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    """Bit for bit, in weights, losses and metrics; and it is said to have cost no teacher's forward."""
    online = recipe(tiny_data, teachers, **options)
    cache_recipe(online, tmp_path / "targets")
    reading = recipe(tiny_data, teachers, **options, distill__cache=str(tmp_path / "targets"))
    expected, weights, metrics = result(online, tmp_path / "online")
    found, weights_again, metrics_again = result(reading, tmp_path / "reading")
    assert same(weights, weights_again)
    assert metrics == metrics_again
    assert found.quality == expected.quality
    assert expected.teacher_flops and found.teacher_flops == 0 == found.teacher_seconds
    assert found.flops == (expected.flops or 0) - expected.teacher_flops


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize("keep", [Keep("top-k", 2), Keep("sampled", 12)], ids=["top-k", "sampled"])
def test_sparse_targets_train_without_a_teacher(
    keep: Keep, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets", keep=keep)
    reading = recipe(tiny_data, teachers, distill__cache=str(tmp_path / "targets"))
    _, weights, metrics = result(reading, tmp_path / "run")
    assert all("distill_loss" in line for line in metrics if line["step"] <= 9)
    _, without, _ = result(tiny_recipe(tiny_data), tmp_path / "without")
    assert not same(weights, without)


@pytest.mark.usefixtures("no_forward")
def test_students_of_any_kind_and_seed_share_a_cache(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    cache_recipe(recipe(tiny_data, teachers, data__seed=0), tmp_path / "targets")
    shared: dict[str, Any] = {"data__seed": 0, "distill__cache": str(tmp_path / "targets")}
    changes: list[dict[str, Any]] = [
        {"train__seed": 1},
        {"train__seed": 2, "model__width": 6},
        {"train__steps": 7, "distill__loss": "reverse_kl", "distill__temperature": 1.0},
        {"distill__every": 3, "distill__teachers": teachers[1:], "train__lr": 0.01},
    ]
    found = [
        result(recipe(tiny_data, teachers, **shared, **change), tmp_path / str(number))[1]
        for number, change in enumerate(changes)
    ]
    assert not same(found[0], found[2])


def test_a_teacher_may_be_listed_twice(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    """With other options, say; online and cached it goes by the same two names."""
    twice: Any = [{"spec": teachers[0], "size": 4}, teachers[0]]
    cache_recipe(recipe(tiny_data, twice), tmp_path / "targets")
    _, expected, _ = result(recipe(tiny_data, twice), tmp_path / "online")
    reading = recipe(tiny_data, twice, distill__cache=str(tmp_path / "targets"))
    _, found, _ = result(reading, tmp_path / "reading")
    assert same(expected, found)
    with pytest.raises(TeacherError, match="teacher: it is given other normalisation or resolution"):
        Session(recipe(tiny_data, twice[::-1], distill__cache=str(tmp_path / "targets")))


def test_making_the_cache_is_in_the_record(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    """Beside the teacher's training, whether the teacher is at hand or not: 9 distilled steps of 24 images."""
    made = recipe(tiny_data, ["old"], teachers={"old": {}}, train__accumulate=2)
    cache_recipe(made, tmp_path / "targets", teacher_paths={"old": Path(teachers[0])})
    reading = recipe(
        tiny_data, ["old"], teachers={"old": {}}, train__accumulate=2, distill__cache=str(tmp_path / "targets")
    )
    (cost,) = train(reading, tmp_path / "run").teachers
    trained, online = read_record(RunRecord, Path(teachers[0]) / "record.json"), recipe(tiny_data, teachers[:1])
    assert (cost.name, cost.seconds, cost.flops, cost.steps) == ("old", trained.seconds, trained.flops, trained.steps)
    assert cost.cache_flops == train(online, tmp_path / "online").teacher_flops
    assert cost.cache_seconds and cost.cache_seconds > 0
    (live,) = train(online, tmp_path / "online").teachers
    assert live.cache_seconds is live.cache_flops is None
    assert live.parameters == cost.parameters


def test_part_of_a_batch_is_read_from_a_cache_of_all(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets")
    part: dict[str, Any] = {"distill__fraction": 0.5}
    _, expected, _ = result(recipe(tiny_data, teachers, **part), tmp_path / "online")
    _, found, _ = result(
        recipe(tiny_data, teachers, **part, distill__cache=str(tmp_path / "targets")), tmp_path / "run"
    )
    # A teacher that is shown fewer images rounds differently, in the last bit.
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_the_teachers_need_not_be_at_hand(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    """Neither their weights nor, where the recipe describes how to train them, the time for that."""
    made = recipe(tiny_data, ["old"], teachers={"old": {"train.steps": 3}})
    cache_recipe(made, tmp_path / "targets", teacher_paths={"old": Path(teachers[0])})
    reading = recipe(tiny_data, ["old"], teachers={"old": {"train.steps": 3}}, distill__cache=str(tmp_path / "targets"))
    assert teacher_recipes(reading, [reading]) == {}
    record, weights, _ = result(reading, tmp_path / "run")
    assert [teacher.name for teacher in record.teachers] == ["old"]
    _, expected, _ = result(recipe(tiny_data, teachers[:1]), tmp_path / "online")
    assert same(weights, expected)


def test_another_teacher_under_the_same_name_is_refused(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    made = recipe(tiny_data, ["old"], teachers={"old": {}})
    cache_recipe(made, tmp_path / "targets", teacher_paths={"old": Path(teachers[0])})
    reading = recipe(tiny_data, ["old"], teachers={"old": {}}, distill__cache=str(tmp_path / "targets"))
    with pytest.raises(TeacherError, match=r"teacher.weights: '.*' in the cache, '.*' now"):
        train(reading, tmp_path / "run", teacher_paths={"old": Path(teachers[1])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train__seed": 1}, "data.seed: 0 in the cache, 1 now"),
        ({"data__augment": {"flip": True}}, "data.augment.crop: 1 in the cache, 0 now"),
        ({"data__holdout": 10}, "data.holdout: 0 in the cache, 10 now"),
        ({"train__precision": "bf16"}, "teacher.autocast: 'None' in the cache, 'torch.bfloat16' now"),
    ],
)
def test_targets_of_other_data_or_precision_are_refused(
    change: dict[str, Any], message: str, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets")
    reading = recipe(tiny_data, teachers, distill__cache=str(tmp_path / "targets"), **change)
    with pytest.raises(TeacherError, match=rf"(?s)holds targets of something else:.*({message})"):
        train(reading, tmp_path / "run")


def test_other_images_of_the_same_name_are_refused(teachers: list[str], tmp_path: Path) -> None:
    here = write_images(tmp_path / "a" / "images")
    there = write_images(tmp_path / "b" / "images", train=123)
    cache_recipe(recipe(here, teachers), tmp_path / "targets")
    with pytest.raises(TeacherError, match="holds targets of something else"):
        train(recipe(there, teachers, distill__cache=str(tmp_path / "targets")), tmp_path / "run")


@pytest.mark.parametrize(
    "change", [{"train__steps": 20}, {"distill__stop": 1.0}, {"distill__start": 0.5, "distill__stop": 1.0}]
)
def test_a_run_that_the_cache_does_not_cover_is_refused_before_its_first_step(
    change: dict[str, Any], tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets")
    with pytest.raises(TeacherError, match=r"holds no target of .* cache the longest run, with the widest window"):
        train(recipe(tiny_data, teachers, distill__cache=str(tmp_path / "targets"), **change), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_so_is_one_with_a_loss_that_the_targets_are_not_good_for(
    tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets", keep=Keep("sampled", 4))
    reading = {"distill__cache": str(tmp_path / "targets")}
    for change in ({"distill__temperature": 2.0}, {"distill__loss": "mse"}, {"distill__draw": 2}):
        with pytest.raises(HeadstartError, match="sampled targets"):
            Session(recipe(tiny_data, teachers, **reading, **change))


def test_a_recipe_without_distillation_has_nothing_to_cache(
    tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="tiny: the recipe has no distill section"):
        cache_recipe(tiny_recipe(tiny_data), tmp_path)
    with pytest.raises(RecipeError, match="its window never opens"):
        cache_recipe(recipe(tiny_data, teachers, distill__stop=0.0), tmp_path)


def test_calibration_times_steps_that_the_cache_holds(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    folder = str(tmp_path / "targets")
    options = {"distill__every": 2, "train__steps": 40}
    online = recipe(tiny_data, teachers, **options)
    cache_recipe(online, folder)
    found = calibrate([online, recipe(tiny_data, teachers, **options, distill__cache=folder)], pairs=1)
    assert len(found.kinds) == 3  # plain, live, cached


def test_settings_leave_out_the_student(tiny_data: Path) -> None:
    base = tiny_recipe(tiny_data)
    settings = data_settings(base, Session(base).task)
    for change in ({"model__width": 6}, {"train__lr": 0.3}, {"train__steps": 3}, {"data__evaluate": "test"}):
        other = tiny_recipe(tiny_data, **change)
        assert data_settings(other, Session(other).task) == settings
    seeded = tiny_recipe(tiny_data, train__seed=3, data__seed=0)
    assert data_settings(seeded, Session(seeded).task) == settings


WORDS = ("the", "cat", "sat", "on", "mat", "dog", "ran", "far", "home", "sun", "moon", "tree", "bird", "loud", "soft")


def mlm_recipe(text: Path, /, **overrides: Any) -> Recipe:
    """A ModernBERT of two layers on sentences of a few words; 6 steps of 8 sequences."""
    content: dict[str, Any] = {
        "task": "mlm",
        "model": {
            "name": "modernbert",
            "config": {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
        },
        "data": {"name": str(text), "vocab_size": 80, "length": 16},
        "train": {"steps": 6, "batch_size": 8, "accumulate": 2, "optimizer": "adamw", "lr": 1e-3, "log_every": 1},
        **overrides,
    }
    return parse_recipe(content, "tiny text recipe")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder of sentences."""
    pytest.importorskip("transformers")
    folder, chance = tmp_path / "text", random.Random(0)
    folder.mkdir()
    for split, documents in (("train", 100), ("test", 20)):
        texts = (" ".join(chance.choice(WORDS) for _ in range(20)) for _ in range(documents))
        (folder / f"{split}.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return folder


def test_masked_tokens_are_cached_too(text: Path, tmp_path: Path) -> None:
    train(mlm_recipe(text), tmp_path / "old")
    distill = {"teachers": [str(tmp_path / "old")], "stop": 0.7}
    online = mlm_recipe(text, distill=distill)
    (path,) = cache_recipe(online, tmp_path / "targets")
    assert CacheFile(path).header.rows_per_sample == 2
    with pytest.raises(RecipeError, match="a sample is seen in more ways than a cache can hold"):
        cache_recipe(online, tmp_path / "views", by="view")
    reading = mlm_recipe(text, distill={**distill, "cache": str(tmp_path / "targets")})
    expected_record, expected, _ = result(online, tmp_path / "online")
    _, found, _ = result(reading, tmp_path / "reading")
    assert same(expected, found)
    # Of these tokens, too, part of a batch can be distilled: the rows are those of the first sequences.
    part = train(mlm_recipe(text, distill={**distill, "fraction": 0.5}), tmp_path / "part")
    # Positions are turned into angles once a forward, however many sequences there are.
    assert part.teacher_flops == pytest.approx((expected_record.teacher_flops or 0) / 2, rel=0.01)
