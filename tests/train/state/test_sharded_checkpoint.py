"""Sharded checkpoints, by one process: what they hold, and that damage and malice are noticed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from headstart.errors import HeadstartError
from headstart.train.state.checkpoint import checkpoints
from headstart.train.state.sharded_checkpoint import load_sharded, save_sharded


def student(seed: int = 0) -> nn.Sequential:
    """With a buffer, and two names for one matrix."""
    torch.manual_seed(seed)
    first, last = nn.Linear(4, 4), nn.Linear(4, 4)
    last.weight = first.weight
    return nn.Sequential(first, nn.BatchNorm1d(4), last)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.1)


def trained(steps: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
    for step in range(steps):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = student()
    optimizer = adamw(model)
    save_sharded(tmp_path, 3, 1.5, trained(3, model, optimizer), optimizer, {"word": 1}, {"map": torch.ones(2)})
    (path,) = checkpoints(tmp_path)
    return path


def test_training_goes_on_as_if_it_had_not_been_left(saved: Path) -> None:
    whole = student()
    optimizer = adamw(whole)
    trained(3, whole, optimizer)
    model = student(seed=1)
    fresh = adamw(model)
    step, seconds, small, beside = load_sharded(saved, model, fresh)
    assert (step, seconds, small) == (3, 1.5, {"word": 1})
    assert beside.keys() == {"map"} and torch.equal(beside["map"], torch.ones(2))
    assert model[2].weight is model[0].weight
    expected = trained(2, whole, optimizer).state_dict()
    for name, value in trained(2, model, fresh).state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_two_are_kept(saved: Path) -> None:
    model = student()
    optimizer = adamw(model)
    for step in (6, 9):
        save_sharded(saved.parent, step, 1.0, trained(1, model, optimizer), optimizer)
    assert [path.name for path in checkpoints(saved.parent)] == ["checkpoint-9", "checkpoint-6"]


def change(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def change_numbers(folder: Path) -> None:
    path = next(folder.glob("*.distcp"))
    change(path, path.read_bytes().index(b"/data/0FB") + 80)


@pytest.mark.parametrize(
    "damage",
    [
        change_numbers,
        lambda folder: change(folder / ".metadata", 200),
        lambda folder: (folder / ".metadata").unlink(),
        lambda folder: next(folder.glob("*.distcp")).unlink(),
        lambda folder: next(folder.glob("*.distcp")).write_bytes(b""),
    ],
    ids=["numbers", "metadata", "no metadata", "no shard", "empty shard"],
)
def test_damage_is_noticed(damage: Callable[[Path], Any], saved: Path) -> None:
    damage(saved)
    model = student()
    with pytest.raises(HeadstartError, match=r"checkpoint-3: cannot be read \("):
        load_sharded(saved, model, adamw(model))


def test_one_of_another_model_is_refused(saved: Path) -> None:
    other = nn.Linear(4, 4)
    with pytest.raises(HeadstartError, match="cannot be read"):
        load_sharded(saved, other, adamw(other))


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_code_in_metadata_is_not_run(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = saved.parent / "made"
    (saved / ".metadata").write_bytes(pickle.dumps(Malicious(made)))
    monkeypatch.setattr(
        "headstart.train.state.sharded_checkpoint._digest", lambda content: (saved / "metadata.blake2b").read_bytes()
    )
    model = student()
    with pytest.raises(HeadstartError, match=r"it names _?io.open, which is no part of a checkpoint's metadata"):
        load_sharded(saved, model, adamw(model))
    assert not made.exists()


def test_a_full_disk_leaves_those_before(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    model = student()
    with pytest.raises(HeadstartError, match=r"step 6 could not be written .*No space left on device.*is kept"):
        save_sharded(saved.parent, 6, 1.0, model, adamw(model))
    assert checkpoints(saved.parent) == [saved]
