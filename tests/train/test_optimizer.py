"""Learning-rate schedules against torch's where the conventions coincide; groups of weight decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from headstart.recipe.train_section import Train
from headstart.tasks.images.resnet import ResNet
from headstart.train.optimizer import build_optimizer, lr_scale, set_lr

STEPS = 40


def ours(**settings: Any) -> list[float]:
    config = Train.model_validate({"steps": STEPS, **settings})
    return [lr_scale(step, STEPS, config) for step in range(STEPS)]


def theirs(kind: type[lr_scheduler.LRScheduler], steps: int, **arguments: Any) -> list[float]:
    """The learning rates of a torch scheduler whose highest is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = kind(optimizer, **arguments)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0.25, 0.5, 0.3])
def test_one_cycle_is_torchs_with_its_end_one_step_later(warmup: float) -> None:
    # torch peaks at pct_start * total_steps - 1 and ends at the last step; we peak at warmup * steps and end after it.
    pct_start = (warmup * STEPS + 1) / (STEPS + 1)
    arguments = {"max_lr": 1.0, "total_steps": STEPS + 1, "pct_start": pct_start, "final_div_factor": 1e12}
    expected = theirs(lr_scheduler.OneCycleLR, STEPS, cycle_momentum=False, **arguments)
    assert ours(schedule="one-cycle", warmup=warmup) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("final_lr", [0.0, 0.1])
def test_cosine_without_warm_up_is_torchs(final_lr: float) -> None:
    expected = theirs(lr_scheduler.CosineAnnealingLR, STEPS, T_max=STEPS, eta_min=final_lr)
    assert ours(schedule="cosine", warmup=0.0, final_lr=final_lr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("final_lr", [0.0, 0.1])
def test_linear_without_warm_up_is_torchs(final_lr: float) -> None:
    expected = theirs(lr_scheduler.LinearLR, STEPS, start_factor=1.0, end_factor=final_lr, total_iters=STEPS)
    assert ours(schedule="linear", warmup=0.0, final_lr=final_lr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("warmup", "decay"), [(0.25, 0.25), (0.0, 1.0), (0.5, 0.5), (0.1, 0.0)])
@pytest.mark.parametrize("final_lr", [0.0, 0.1])
def test_warm_up_stable_decay(warmup: float, decay: float, final_lr: float) -> None:
    rates = ours(schedule="wsd", warmup=warmup, decay=decay, final_lr=final_lr)
    rising, falling = round(warmup * STEPS), round(decay * STEPS)
    assert rates[:rising] == pytest.approx([(step + 1) / (rising + 1) for step in range(rising)])
    assert rates[rising : STEPS - falling] == [1.0] * (STEPS - rising - falling)
    expected = theirs(
        lr_scheduler.LinearLR, falling, start_factor=1.0, end_factor=final_lr, total_iters=max(1, falling)
    )
    assert rates[STEPS - falling :] == pytest.approx(expected, abs=1e-9)


def test_a_decay_that_begins_before_the_warm_up_ends_is_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup=0.5 and decay=0.6 do not fit into one training"):
        ours(schedule="wsd", warmup=0.5, decay=0.6)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_warm_up_is_torchs_linear_one_and_the_rest_begins_after_it(schedule: str) -> None:
    rates = ours(schedule=schedule, warmup=0.25)
    expected = theirs(lr_scheduler.LinearLR, 11, start_factor=1 / 11, end_factor=1.0, total_iters=10)
    assert rates[:11] == pytest.approx(expected, abs=1e-9)
    config = Train.model_validate({"steps": 30, "schedule": schedule, "warmup": 0.0})
    assert rates[10:] == pytest.approx([lr_scale(step, 30, config) for step in range(30)], abs=1e-9)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.33, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_every_step_of_every_schedule_trains(schedule: str, warmup: float, steps: int) -> None:
    config = Train.model_validate({"steps": steps, "schedule": schedule, "warmup": warmup})
    rates = [lr_scale(step, steps, config) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_biases_and_norms_do_not_decay(optimizer: str, kind: type[torch.optim.Optimizer]) -> None:
    model = ResNet(8, classes=3, width=4)
    built = build_optimizer(model, Train.model_validate({"steps": 1, "optimizer": optimizer, "weight_decay": 0.1}))
    assert isinstance(built, kind)
    decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    decayed = {name for name, p in model.named_parameters() if decay[id(p)] == 0.1}
    assert all(decay[id(p)] in (0.0, 0.1) for p in model.parameters())
    convolutions = {f"{name}.weight" for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert decayed == convolutions


def test_what_does_not_train_is_left_out() -> None:
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    built = build_optimizer(model, Train(steps=1))
    assert [len(group["params"]) for group in built.param_groups] == [1, 0]


def test_settings_reach_the_optimiser() -> None:
    settings = {"steps": 1, "lr": 0.3, "momentum": 0.8, "betas": [0.8, 0.95], "eps": 1e-6}
    sgd = build_optimizer(nn.Linear(2, 3), Train.model_validate(settings)).param_groups[0]
    adamw = build_optimizer(nn.Linear(2, 3), Train.model_validate({**settings, "optimizer": "adamw"})).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["nesterov"]) == (0.3, 0.8, True)
    assert (adamw["lr"], adamw["betas"], adamw["eps"]) == (0.3, (0.8, 0.95), 1e-6)


def test_plain_sgd_needs_no_momentum() -> None:
    group = build_optimizer(nn.Linear(2, 3), Train(steps=1, momentum=0.0)).param_groups[0]
    assert group["nesterov"] is False


def test_the_learning_rate_of_all_groups_is_set() -> None:
    built = build_optimizer(nn.Linear(2, 3), Train(steps=1))
    set_lr(built, 0.07)
    assert [group["lr"] for group in built.param_groups] == [0.07, 0.07]
