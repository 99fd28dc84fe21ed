"""Teachers that a recipe trains first and that are not there yet: their like with fresh weights, which take as long."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from headstart.distill.flops import step_flops
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import steps_of
from headstart.teachers.find import is_finished
from headstart.train.setup.build_task import build_task
from headstart.train.state.run_folder import RunFolder


class StandIn(NamedTuple):
    """A model of a teacher that is still to be trained.

    Attributes:
        path: A run folder without a record.
        training_flops: What its training will take.
        samples: How many it will see.
    """

    path: Path
    training_flops: float
    samples: int


def trained_at(described: Mapping[str, Recipe], folder: Path) -> dict[str, Path]:
    """The run folders of the described teachers that are finished there, by name."""
    places = {name: folder / name for name in described}
    return {name: path for name, path in places.items() if is_finished(path)}


def stand_in(recipe: Recipe, folder: Path) -> StandIn:
    """Write a model like the one that a recipe will train.

    Raises:
        HeadstartError: Its data or model cannot be had, or the FLOPs of an operator are not known.
    """
    task = build_task(recipe, "cpu")
    model, train = task.build_model(), recipe.train
    place = RunFolder(folder, recipe)
    place.save_weights(model, task.describe())
    task.save_beside(folder)
    inputs = task.batch(0, train.batch_size, parts=train.accumulate).inputs
    steps = steps_of(recipe, task.samples)
    flops = float(steps * train.accumulate * step_flops(model, inputs, task.forward))
    del task, model, inputs
    gc.collect()
    return StandIn(folder, flops, steps * train.batch_size)
