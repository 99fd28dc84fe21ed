"""Calibrated step times: the kinds of steps, their intervals, the parts they are told apart into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from headstart.experiment.calibrate import calibrate, median_interval
from headstart.recipe.step_kinds import count_steps, distill_kind, plain_kind
from headstart.records import RunRecord
from tests.tiny import tiny_recipe


@pytest.mark.parametrize("count", [6, 20, 59, 200, 401])
def test_the_median_lies_in_its_interval_as_often_as_promised(count: int) -> None:
    low, high = median_interval(range(1, count + 1))
    # The number of values below the median is binomial: exact for every continuous distribution.
    covered = stats.binom.cdf(high - 1, count, 0.5) - stats.binom.cdf(low - 1, count, 0.5)
    narrower = stats.binom.cdf(high - 2, count, 0.5) - stats.binom.cdf(low, count, 0.5)
    assert covered >= 0.95 > narrower
    assert low - 1 == count - high


@pytest.mark.parametrize("count", [1, 2, 5])
def test_of_few_values_the_interval_is_the_range(count: int) -> None:
    assert median_interval(range(count)) == (0, count - 1)


def test_order_does_not_matter() -> None:
    values = np.random.default_rng(0).normal(size=100)
    assert median_interval(values) == median_interval(sorted(values, reverse=True))


@pytest.mark.parametrize(
    "same",
    [{"train__steps": 99}, {"train__seed": 5}, {"train__lr": 1.0}, {"train__log_every": 7}, {"data__holdout": 10}],
    ids=str,
)
def test_what_does_not_change_a_steps_work_does_not_change_its_kind(same: dict[str, Any]) -> None:
    assert plain_kind(tiny_recipe(Path("somewhere"), **same)) == plain_kind(tiny_recipe(Path("somewhere")))


@pytest.mark.parametrize(
    "other",
    [
        {"train__batch_size": 12},
        {"train__accumulate": 2},
        {"train__precision": "bf16"},
        {"train__optimizer": "adamw"},
        {"model__width": 5},
        {"data__augment": {}},
    ],
    ids=str,
)
def test_what_changes_a_steps_work_changes_its_kind(other: dict[str, Any]) -> None:
    assert plain_kind(tiny_recipe(Path("somewhere"), **other)) != plain_kind(tiny_recipe(Path("somewhere")))


def test_distilling_steps_differ_by_teachers_and_loss_and_not_by_window() -> None:
    def kind(**distill: Any) -> str | None:
        return distill_kind(tiny_recipe(Path("somewhere"), distill={"teachers": ["a"], **distill}))

    assert kind() == kind(stop=1.0, weight=0.3, every=3)
    assert len({kind(), kind(loss="mse"), kind(teachers=["b"]), kind(teachers=["a", "b"])}) == 4
    assert distill_kind(tiny_recipe(Path("somewhere"))) is None


@pytest.mark.parametrize(
    ("distill", "plain", "distilling"),
    [
        (None, 12, None),
        ({"stop": 0.5}, 6, 6),
        ({"stop": 1.0}, None, 12),
        ({"start": 0.25, "stop": 0.75, "every": 4}, 10, 2),
        ({"start": 0.5, "stop": 0.5}, 12, None),
    ],
)
def test_a_runs_steps_are_counted_by_kind(
    distill: dict[str, Any] | None, plain: int | None, distilling: int | None
) -> None:
    recipe = tiny_recipe(Path("somewhere"), distill={"teachers": ["a"], **distill} if distill else None)
    expected = {plain_kind(recipe): plain, distill_kind(recipe): distilling}
    assert count_steps(recipe, 12) == {kind: count for kind, count in expected.items() if count is not None}


def test_every_kind_of_the_arms_is_timed_and_told_apart(tiny_data: Path, teachers: list[str]) -> None:
    arms = [
        tiny_recipe(tiny_data),
        tiny_recipe(tiny_data, distill={"teachers": teachers[:1]}),
        tiny_recipe(tiny_data, distill={"teachers": teachers, "draw": "all"}),
        tiny_recipe(tiny_data, distill={"teachers": teachers[:1], "stop": 1.0}),
    ]
    told: list[tuple[int, int]] = []
    result = calibrate(arms, pairs=3, progress=lambda done, total: told.append((done, total)))
    plain, one, all_of_them = plain_kind(arms[0]), distill_kind(arms[1]), distill_kind(arms[2])
    assert one is not None and all_of_them is not None
    assert set(result.kinds) == {plain, one, all_of_them}
    for time in result.kinds.values():
        assert time.low is not None and time.high is not None
        assert time.n == 6 and time.low <= time.seconds <= time.high
        assert 0 < time.data_seconds < time.seconds
    assert result.kinds[plain].teacher_seconds == 0
    for kind in (one, all_of_them):
        added = result.kinds[kind].seconds - result.kinds[plain].seconds
        assert result.kinds[kind].teacher_seconds == max(0.0, added)
    assert told == [(done, told[-1][1]) for done in range(1, told[-1][1] + 1)]
    assert result.seconds > 0 and result.device


def trained(data: Path, *, device: str = "CPU of old, 1 threads", **changes: Any) -> RunRecord:
    """The record of a teacher's training, with kinds of steps named by an earlier version."""
    recipe = tiny_recipe(data, model__width=8, **changes)
    return RunRecord(
        quality=0.9,
        seconds=9.0,
        steps={"of an earlier version": 12},
        settings=recipe.model_dump(mode="json"),
        environment={"device": device},
    )


def test_steps_of_a_teacher_trained_before_are_timed_too(tiny_data: Path) -> None:
    raced, teacher = tiny_recipe(tiny_data), tiny_recipe(tiny_data, model__width=8)
    result = calibrate([raced], at_hand=[trained(tiny_data)], pairs=1)
    assert set(result.kinds) == {plain_kind(raced), plain_kind(teacher)} and result.left_out == {}
    assert result.kinds[plain_kind(teacher)].n == 2


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (lambda data: trained(data.parent / "elsewhere"), "it was trained on other data"),
        (lambda data: trained(data, device="NVIDIA H100"), "another kind of device (NVIDIA H100)"),
        (lambda data: trained(data, train__batch_size=500), "cannot be made again here (RecipeError: train.batch_size"),
        (lambda data: trained(data).model_copy(update={"settings": {"epochs": 2}}), "no recipe of this version"),
    ],
)
def test_steps_of_a_teacher_that_cannot_be_timed_are_left_out_with_the_reason(
    record: Callable[[Path], RunRecord], reason: str, tiny_data: Path
) -> None:
    raced = tiny_recipe(tiny_data)
    result = calibrate([raced], at_hand=[record(tiny_data)], pairs=1)
    assert set(result.kinds) == {plain_kind(raced)}
    assert len(result.left_out) == 1 and reason in next(iter(result.left_out.values()))
