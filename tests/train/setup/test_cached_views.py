"""Recipes whose samples are seen in few ways: one cache of all of them serves every seed, length and window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headstart.cache import Keep
from headstart.cache.reader import CacheFile
from headstart.errors import RecipeError, TeacherError
from headstart.experiment.fill_cache import cache_recipe
from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from tests.tiny import tiny_recipe

FLIP: dict[str, Any] = {"data__augment": {"flip": True}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def recipe(data: Path, teachers: list[str], /, **overrides: Any) -> Recipe:
    return tiny_recipe(data, **{"distill__teachers": teachers[:1], **FLIP, **overrides})


def weights(recipe: Recipe, folder: Path) -> dict[str, torch.Tensor]:
    train(recipe, folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"train__seed": 3},
        {"train__seed": 1, "train__steps": 25, "distill__stop": 1.0},
        {"train__batch_size": 16, "train__accumulate": 2, "distill__every": 2},
        {"distill__fraction": 0.5},
    ],
    ids=["the same", "another seed", "longer, throughout", "other batches", "half of each batch"],
)
@pytest.mark.parametrize("flip", [True, False])
def test_runs_of_any_seed_and_length_are_the_online_runs(
    flip: bool, change: dict[str, Any], tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    augment: dict[str, Any] = {"data__augment": {"flip": flip}}
    (path,) = cache_recipe(recipe(tiny_data, teachers, **augment), tmp_path / "targets", by="view")
    assert CacheFile(path).header.views == (2 if flip else 1)
    assert CacheFile(path).heads["samples"].sum() == 120 * (2 if flip else 1)
    expected = weights(recipe(tiny_data, teachers, **augment, **change), tmp_path / "online")
    reading = {**augment, **change, "distill__cache": str(tmp_path / "targets")}
    found = weights(recipe(tiny_data, teachers, **reading), tmp_path / "run")
    for name, value in expected.items():  # batches of other images round differently, in the last bit
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_sparse_targets_are_kept_by_view_too(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets", keep=Keep("top-k", 2), by="view")
    train(recipe(tiny_data, teachers, distill__cache=str(tmp_path / "targets")), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data__augment": {"flip": True, "crop": 1}}, "data.augment.crop: 0 in the cache, 1 now"),
        ({"data__augment": {}}, "data.augment.flip: True in the cache, False now"),
        ({"data__holdout": 10}, "data.holdout: 0 in the cache, 10 now"),
    ],
)
def test_other_data_is_refused(
    change: dict[str, Any], message: str, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    cache_recipe(recipe(tiny_data, teachers), tmp_path / "targets", by="view")
    reading = recipe(tiny_data, teachers, **{"distill__cache": str(tmp_path / "targets"), **change})
    with pytest.raises(TeacherError, match=rf"(?s)holds targets of something else:.*({message})"):
        train(reading, tmp_path / "run")


@pytest.mark.parametrize("augment", [{"flip": True, "crop": 1}, {"cutout": 2}])
def test_samples_with_many_views_are_refused(
    augment: dict[str, Any], tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="a sample is seen in more ways than a cache can hold"):
        cache_recipe(recipe(tiny_data, teachers, data__augment=augment), tmp_path / "targets", by="view")
    assert not (tmp_path / "targets").exists()


def test_a_stream_has_no_views() -> None:
    """Its sequences are numbered in the order that the seed gives them."""
    from headstart.tasks.text.config import ClmData, MlmData

    assert ClmData(name="any").views == 1
    assert ClmData(name="any", streaming=True).views is None
    assert getattr(MlmData(name="any"), "views", None) is None
