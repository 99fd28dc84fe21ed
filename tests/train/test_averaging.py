"""The average of the weights: what it is, that it is judged and kept, and that it survives an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, read_record
from headstart.train.averaging import average_of
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, weight_bits

DECAY = 0.75


def interrupt(recipe: Recipe, folder: Path, after: int) -> None:
    """Train, and leave after a step."""

    def leave(step: int, total_steps: int, loss: float) -> None:
        if step >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, progress=leave)


def test_it_is_the_exponential_moving_average_of_weights_and_statistics(tiny_data: Path) -> None:
    session = Session(tiny_recipe(tiny_data, train__ema=DECAY))
    expected: dict[str, torch.Tensor] = {}
    for step in range(5):
        session.train_step(step)
        now = {name: value.double() for name, value in session.student.state_dict().items()}
        for name, value in now.items():
            expected[name] = value if step == 0 else DECAY * expected[name] + (1 - DECAY) * value
    found = session.result.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999, 0.9999])
def test_whole_numbers_are_the_models(decay: float) -> None:
    """BERT and its kin look up the positions that they add in a buffer of whole numbers."""
    model = nn.BatchNorm1d(2)
    model.register_buffer("positions", torch.arange(512))
    average = average_of(model, decay)
    assert average is not None
    for _ in range(20):
        model(torch.randn(4, 2))
        average.update_parameters(model)
    found = dict(average.module.named_buffers())
    assert torch.equal(found["positions"], torch.arange(512))
    assert found["num_batches_tracked"] == 20


def test_the_student_trains_as_without_it(tiny_data: Path) -> None:
    sessions = [Session(tiny_recipe(tiny_data, train__ema=ema)) for ema in (None, DECAY)]
    losses = [[float(session.train_step(step)) for step in range(5)] for session in sessions]
    assert losses[0] == losses[1]
    assert sessions[0].result is sessions[0].student and sessions[1].result is not sessions[1].student


def test_it_is_judged_and_kept(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, train__ema=DECAY)
    record = train(recipe, tmp_path)
    session = Session(recipe)
    for step in range(session.total_steps):
        session.train_step(step)
    kept = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in session.result.state_dict().items())
    plain = Session(tiny_recipe(tiny_data))
    plain.student.load_state_dict(kept)
    assert record.losses["held_out_loss"] == pytest.approx(plain.evaluate().others["held_out_loss"], rel=1e-6)
    plain.student.load_state_dict(session.student.state_dict())
    assert record.losses["held_out_loss"] != pytest.approx(plain.evaluate().others["held_out_loss"], rel=1e-6)


def test_an_interrupted_run_goes_on_with_it(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, train__ema=DECAY)
    whole = train(recipe, tmp_path / "whole")
    interrupt(recipe, tmp_path / "again", after=6)
    train(recipe, tmp_path / "again")
    assert weight_bits(tmp_path / "again") == weight_bits(tmp_path / "whole")
    assert read_record(RunRecord, tmp_path / "again" / "record.json").quality == whole.quality
