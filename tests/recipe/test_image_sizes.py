"""Images that grow during a run: who sees them, and that steps, seconds and FLOPs are counted size by size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.distill import Teacher
from headstart.distill.flops import forward_flops, step_flops
from headstart.experiment.calibrate import calibrate
from headstart.recipe.image_sizes import count_sides, side_of_step
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import count_steps, distill_kind, plain_kind
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, write_run

pytestmark = pytest.mark.usefixtures("able_to_cut")

# Of 8 steps: 2 at 8 pixels, 2 at 12, 4 at 16.
GROWING = {"scale": 0.5, "start": 0.125, "stop": 0.5, "increment": 4}
RGB = {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)}


@pytest.fixture(scope="module")
def photos(photos: dict[str, Path]) -> Path:
    return photos["tree"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(tmp_path_factory.mktemp("teacher"), **RGB))  # type: ignore[arg-type]


def growing(photos: Path, /, progressive: dict[str, Any] | None = GROWING, **overrides: Any) -> Recipe:
    data = {"name": str(photos), "size": 16, "workers": 0, "progressive": progressive}
    return tiny_recipe(photos, data=data, train__steps=8, train__batch_size=12, **overrides)


def test_steps_have_the_sides_that_the_recipe_says(photos: Path) -> None:
    recipe = growing(photos)
    sides = [side_of_step(recipe, step, 8) for step in range(8)]
    assert sides == [8, 8, 12, 12, None, None, None, None]
    assert count_sides(recipe, 8) == Counter(sides)


def test_student_and_teacher_see_the_same_small_images(photos: Path, teacher: str) -> None:
    recipe = growing(photos, distill={"teachers": [teacher], "stop": 1.0})
    session = Session(recipe)
    seen: dict[str, list[torch.Size]] = {"student": [], "teacher": []}

    def note(name: str) -> Any:
        return lambda module, inputs: seen[name].append(inputs[0].shape[-2:])

    assert session.pool is not None
    live = session.pool.teachers[0]
    assert isinstance(live, Teacher)
    session.student.register_forward_pre_hook(note("student"))
    live.module.register_forward_pre_hook(note("teacher"))
    for step in range(7):
        session.train_step(step)
    assert seen["student"] == [torch.Size((side, side)) for side in (8, 8, 12, 12, 16, 16, 16)]
    assert seen["teacher"] == seen["student"]


def test_flops_are_counted_at_each_size(photos: Path, teacher: str, tmp_path: Path) -> None:
    recipe = growing(photos, distill={"teachers": [teacher], "stop": 0.5})
    record, session = train(recipe, tmp_path), Session(recipe)
    images = {side: torch.zeros(12, 3, side, side) for side in (8, 12, 16)}
    assert session.pool is not None
    live = session.pool.teachers[0]
    assert isinstance(live, Teacher)
    student = {side: step_flops(session.student, inputs) for side, inputs in images.items()}
    forward = {side: forward_flops(live.module, inputs) for side, inputs in images.items()}
    assert record.teacher_flops == 2 * forward[8] + 2 * forward[12]
    assert record.flops is not None
    assert record.flops - record.teacher_flops == 2 * student[8] + 2 * student[12] + 4 * student[16]


def test_micro_batches_count_as_much_as_the_batch(photos: Path, tmp_path: Path) -> None:
    records = [train(growing(photos, train__accumulate=parts), tmp_path / str(parts)) for parts in (1, 3)]
    assert records[0].flops == records[1].flops


def test_each_size_is_a_kind_of_step_that_is_timed(photos: Path, teacher: str) -> None:
    recipe = growing(photos, distill={"teachers": [teacher], "stop": 0.25})
    counts = count_steps(recipe, 8)
    expected = {
        distill_kind(recipe, 8): 2,
        plain_kind(recipe, 12): 2,
        plain_kind(recipe): 4,
    }
    assert counts == expected and len(expected) == 3
    result = calibrate([recipe], pairs=1)
    assert set(counts) <= set(result.kinds) and len(result.kinds) == 6
    assert result.kinds[plain_kind(recipe, 8)].teacher_seconds == 0


def test_a_step_at_full_size_is_one_of_a_recipe_without_growth(photos: Path) -> None:
    plain = growing(photos, progressive=None)
    assert plain_kind(growing(photos)) == plain_kind(plain) != plain_kind(growing(photos), 8)
    assert count_steps(plain, 8) == {plain_kind(plain): 8}


@pytest.mark.parametrize(
    "other",
    [{"train__ema": 0.9}, {"train__task_loss": "bce"}, {"model": {"name": "resnet8", "blurpool": True}}],
    ids=str,
)
def test_what_costs_time_makes_another_kind(other: dict[str, Any], photos: Path) -> None:
    plain = growing(photos, model={"name": "resnet8"})
    assert plain_kind(growing(photos, **{"model": {"name": "resnet8"}, **other})) != plain_kind(plain)
