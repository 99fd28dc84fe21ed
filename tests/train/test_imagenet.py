"""The ImageNet recipes from end to end on a handful of photographs: every form of files, resumed, on two processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headstart.recipe.load import load_recipe
from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from headstart.train.session import Session
from tests.tasks.images.photos import FORMS, cutting, torchvision_works
from tests.tiny import weight_bits, write_run
from tests.train.processes import run_together
from tests.train.test_averaging import interrupt
from tests.train.test_distributed import check_equal_weights

pytestmark = pytest.mark.usefixtures("able_to_cut")

RECIPES = Path(__file__).parents[2] / "recipes"
MILD, BASELINE = RECIPES / "imagenet-resnet50-mild.yaml", RECIPES / "imagenet-resnet50.yaml"
# All that the recipe is made of, only smaller: 4 steps an epoch.
SMALL = [
    "data.size=16",
    "data.evaluate_size=20",
    "data.workers=0",
    "data.progressive.increment=4",
    "data.augment.mixup=0.2",
    "train.epochs=null",
    "train.steps=8",
    "train.batch_size=12",
    "train.lr=0.02",
    "train.ema=0.5",
    "train.precision=fp32",
    "train.log_every=1",
    "train.checkpoint_every=3",
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    means = {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)}
    return str(write_run(tmp_path_factory.mktemp("teacher"), **means))  # type: ignore[arg-type]


def small(folder: Path, teacher: str, *overrides: str) -> Recipe:
    model = "model={name: resnet8, width: 16, blurpool: true}"
    given = [f"data.name={folder}", f"distill.teachers=[{teacher}]", model]
    return load_recipe(MILD, [*SMALL, *given, *overrides])


def test_every_form_of_files_trains_to_the_same_weights(photos: dict[str, Path], teacher: str, tmp_path: Path) -> None:
    records = {form: train(small(photos[form], teacher), tmp_path / form) for form in FORMS}
    assert len({record.quality for record in records.values()}) == 1
    assert sum(records["tree"].steps.values()) == 8 and records["tree"].teacher_flops
    weights = {form: load_file(tmp_path / form / "model.safetensors") for form in FORMS}
    for name, value in weights["tree"].items():
        assert torch.equal(value, weights["parquet"][name]) and torch.equal(value, weights["shards"][name])


def test_a_run_interrupted_within_an_epoch_goes_on_to_the_same_bits(
    photos: dict[str, Path], teacher: str, tmp_path: Path
) -> None:
    recipe = small(photos["parquet"], teacher, "data.workers=2", "train.accumulate=2")
    train(recipe, tmp_path / "whole")
    interrupt(recipe, tmp_path / "again", after=7)  # from the checkpoint of step 6, the second of its epoch
    train(recipe, tmp_path / "again")
    assert weight_bits(tmp_path / "again") == weight_bits(tmp_path / "whole")


def train_photos(runs: Sequence[tuple[Recipe, Path]]) -> None:
    with cutting():
        for recipe, folder in runs:
            train(recipe, folder)


def test_two_processes_train_as_one(photos: dict[str, Path], teacher: str, tmp_path: Path) -> None:
    runs = [(small(photos["shards"], teacher), tmp_path / "two")]
    run_together(train_photos, runs)
    train(small(photos["tree"], teacher, "train.accumulate=2"), tmp_path / "one")
    check_equal_weights(tmp_path / "one", tmp_path / "two")


def test_labels_of_mixtures_reach_the_loss(photos: dict[str, Path], teacher: str) -> None:
    recipe = small(photos["tree"], teacher, "distill=null", "data.progressive=null")
    session = Session(recipe)
    batch = session.batch(2)
    assert batch.mixed is not None
    session.model.train()
    expected = session.task.loss(session.model(batch.inputs), batch)
    assert float(Session(recipe).train_step(2)) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.skipif(not torchvision_works(), reason="needs torchvision: pip install 'headstart[vision]'")
@pytest.mark.parametrize("path", [BASELINE, MILD], ids=lambda path: path.stem)
def test_the_recipes_train_resnet50(path: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "data.name": photos["shards"],
        "data.size": 32,
        "data.workers": 2,
        "train.epochs": "null",
        "train.steps": 2,
        "train.batch_size": 4,
        "train.lr": 1e-6,  # four images of 16 x 16 end in batch norms of four numbers, whose gradients explode
        "train.log_every": 1,
        "distill.teachers": f"[{write_run(tmp_path / 'teacher', mean=(0.4,) * 3, std=(0.2,) * 3)}]",
    }
    recipe = load_recipe(path, [f"{key}={value}" for key, value in given.items()])
    record = train(recipe, tmp_path / "run")
    assert record.metric == "accuracy" and sum(record.steps.values()) == 2
