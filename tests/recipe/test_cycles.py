"""Cycles against torch's warm restarts, and against the schedules and windows of trainings of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from headstart.distill import Window
from headstart.errors import RecipeError
from headstart.recipe.cycles import cycle_at, cycle_ends, number_of_cycles
from headstart.recipe.cyclic_window import CyclicWindow
from headstart.recipe.load import parse_recipe
from headstart.recipe.train_section import Train
from headstart.train.optimizer import lr_scale
from headstart.train.session import Session
from tests.tiny import tiny_recipe, write_images

LENGTHS = (4, 8, 16)  # of the cycles of a training of 28 steps
STARTS = (0, 4, 12)


def rates(**settings: Any) -> list[float]:
    config = Train.model_validate({"steps": sum(LENGTHS), "first_cycle": LENGTHS[0], **settings})
    return [lr_scale(step, sum(LENGTHS), config) for step in range(sum(LENGTHS))]


@pytest.mark.parametrize("final_lr", [0.0, 0.1])
def test_cosine_in_cycles_is_torchs_warm_restarts(final_lr: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=LENGTHS[0], T_mult=2, eta_min=final_lr)
    expected = []
    for _ in range(sum(LENGTHS)):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(schedule="cosine", warmup=0.0, final_lr=final_lr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "linear"])
def test_every_cycle_has_the_complete_schedule(schedule: str) -> None:
    alone = []
    for length in LENGTHS:
        config = Train.model_validate({"steps": length, "schedule": schedule, "warmup": 0.3})
        alone += [lr_scale(step, length, config) for step in range(length)]
    assert rates(schedule=schedule, warmup=0.3) == alone


@pytest.mark.parametrize(
    "window",
    [
        Window(stop=0.5),
        Window(start=0.25, stop=0.75, every=2),
        Window(stop=0.5, ramp_up=0.25, ramp_down=0.25),
        Window(start=0.5, stop=1.0),
        Window(start=0.1, stop=0.13),
        Window(start=0.5, stop=0.5),
    ],
)
def test_the_window_opens_in_every_cycle(window: Window) -> None:
    total = sum(LENGTHS)
    cyclic = CyclicWindow(**vars(window), cycles=len(LENGTHS))
    scales = [cyclic.scale(step, total) for step in range(total)]
    assert scales == [window.scale(step, length) for length in LENGTHS for step in range(length)]
    assert cyclic.distilled_steps(total) == sum(scale > 0 for scale in scales)
    assert [cyclic.closed(step, total) for step in range(total + 1)] == [
        not any(scales[step:]) for step in range(total + 1)
    ]


def test_a_step_is_in_the_cycle_that_covers_it() -> None:
    found = [cycle_at(step, 28, 3) for step in range(28)]
    assert found == [(start, length) for start, length in zip(STARTS, LENGTHS, strict=True) for _ in range(length)]
    assert cycle_ends(28, 3) == [4, 12, 28]
    assert [cycle_at(step, 28, 1) for step in (0, 27, 28)] == [(0, 28)] * 3


@pytest.mark.parametrize(
    ("length", "first", "would_do"),
    [
        (2, 1, "1, 3 and"),
        (4, 1, "1, 3, 7 and"),
        (0.5, 1, "1, 3 and"),
        (2, 0.5, "0.5, 1.5, 3.5 and"),
        (8, 4, "4, 12 and"),
    ],
)
def test_a_length_within_a_cycle_is_refused(length: float, first: float, would_do: str) -> None:
    with pytest.raises(ValueError, match=rf"^{length:g} ends in the middle of a cycle: .* may be {would_do} so on$"):
        number_of_cycles(length, first)


@pytest.mark.parametrize("first", [0.1, 1 / 3, 0.7, 8])
def test_rounding_does_not_hide_a_cycles_end(first: float) -> None:
    assert [number_of_cycles(first * (2**count - 1), first) for count in range(1, 8)] == list(range(1, 8))


def test_a_recipe_says_where_its_length_is_wrong() -> None:
    content: dict[str, Any] = {"data": {"name": "x"}, "train": {"epochs": 4, "first_cycle": 1}}
    with pytest.raises(RecipeError, match="here: train: 4 ends in the middle of a cycle: the first is 1 long"):
        parse_recipe(content, "here")
    content["train"] = {"steps": 7, "first_cycle": 7 / 3}
    with pytest.raises(RecipeError, match=r"first_cycle=2\.33.* is no number of steps"):
        parse_recipe(content, "here")


def test_a_training_of_fewer_cycles_has_the_steps_of_a_longers_beginning(tmp_path: Path) -> None:
    """Also where a cycle is no whole number of steps: 120 samples are 5 steps an epoch."""
    data = write_images(tmp_path)
    totals = [
        Session(tiny_recipe(data, train__steps=None, train__epochs=epochs, train__first_cycle=0.3)).total_steps
        for epochs in (0.3, 0.9, 2.1)
    ]
    assert totals == [2, 6, 14]
