"""A run whose teachers wait on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.errors import RecipeError, TeacherError
from headstart.experiment.fill_cache import cache_recipe
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import distill_kind
from headstart.train.run import train
from tests.tiny import tiny_recipe, weight_bits


@pytest.fixture
def distilling(tiny_data: Path, teachers: list[str]) -> Any:
    def recipe(**options: Any) -> Recipe:
        return tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 0.8, **options})

    return recipe


def test_it_trains_the_same_weights(distilling: Any, tmp_path: Path) -> None:
    runs = {name: tmp_path / name for name in ("device", "stream")}
    records = {name: train(distilling(residence=name, every=2), place) for name, place in runs.items()}
    assert weight_bits(runs["stream"]) == weight_bits(runs["device"])
    assert records["stream"].teacher_flops == records["device"].teacher_flops
    assert not list(runs["stream"].glob("checkpoint*"))


def test_its_step_is_a_kind_of_its_own(distilling: Any) -> None:
    streamed, resident = distilling(residence="stream"), distilling()
    assert distill_kind(streamed) != distill_kind(resident)


def test_targets_are_cached_as_always(distilling: Any, tmp_path: Path) -> None:
    files = [cache_recipe(distilling(residence=name), tmp_path / name) for name in ("device", "stream")]
    names = [[file.name for file in each] for each in files]
    assert len(names[0]) == 2 and names[0] == names[1]


def test_what_does_not_go_together_is_refused(distilling: Any, teachers: list[str], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="spool='x': teachers wait in files with residence: stream only"):
        distilling(spool="x")
    placed = [{"spec": spec, "device": "cpu"} for spec in teachers]
    with pytest.raises(TeacherError, match="stays on cpu, but residence='stream' brings teachers"):
        train(distilling(teachers=placed, residence="stream"), tmp_path)
