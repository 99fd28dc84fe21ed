"""A run in cycles that goes on from a shorter one: the same training, at the price of the rest of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.state.checkpoint import checkpoints
from tests.tiny import tiny_recipe, weight_bits

Counted = list[int]


def cyclic(data: Path, steps: int, **settings: Any) -> Recipe:
    return tiny_recipe(data, train__steps=steps, train__first_cycle=4, **settings)


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "quality", "total_steps")}
        for line in lines
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The steps that are trained, as they are."""
    steps: Counted = []
    original = Session.train_step

    def noting(self: Session, step: int) -> Any:
        steps.append(step)
        return original(self, step)

    monkeypatch.setattr(Session, "train_step", noting)
    return steps


@pytest.mark.parametrize("distilled", [False, True])
def test_it_ends_at_the_weights_of_a_training_that_was_not_divided(
    distilled: bool, tiny_data: Path, teachers: list[str], tmp_path: Path, trained: Counted
) -> None:
    settings = {"distill": {"teachers": teachers, "stop": 0.5}} if distilled else {}
    whole = train(cyclic(tiny_data, 28, **settings), tmp_path / "whole")
    trained.clear()
    folders = [tmp_path / str(steps) for steps in (4, 12, 28)]
    records = [
        train(cyclic(tiny_data, steps, **settings), folder, shorter=folders[:place])
        for place, (steps, folder) in enumerate(zip((4, 12, 28), folders, strict=True))
    ]
    assert trained == list(range(28))
    assert weight_bits(folders[2]) == weight_bits(tmp_path / "whole")
    assert metrics(folders[2]) == metrics(tmp_path / "whole")
    assert (records[2].quality, records[2].steps, records[2].flops) == (whole.quality, whole.steps, whole.flops)
    assert [sum(record.steps.values()) for record in records] == [4, 12, 28]
    assert records[0].seconds < records[1].seconds < records[2].seconds
    assert [len(checkpoints(folder)) for folder in folders] == [0, 0, 1]


def test_the_first_cycle_is_a_training_of_its_own(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    distill = {"teachers": teachers, "stop": 0.5}
    train(cyclic(tiny_data, 4, distill=distill), tmp_path / "cycle")
    train(tiny_recipe(tiny_data, train__steps=4, distill=distill), tmp_path / "alone")
    one, other = (weight_bits(tmp_path / name)[1] for name in ("cycle", "alone"))
    assert one == other


def test_the_metrics_tell_the_quality_at_the_end_of_each_cycle(tiny_data: Path, tmp_path: Path) -> None:
    train(cyclic(tiny_data, 28), tmp_path / "long")
    lines = [json.loads(line) for line in (tmp_path / "long" / "metrics.jsonl").read_text().splitlines()]
    told = {line["step"]: line["quality"] for line in lines if "quality" in line}
    short = {steps: train(cyclic(tiny_data, steps), tmp_path / str(steps)).quality for steps in (4, 12)}
    assert told == short


@pytest.mark.parametrize("other", [{"train__lr": 0.2}, {"train__seed": 1}, {"name": "another"}])
def test_it_does_not_go_on_from_another_training(
    other: dict[str, Any], tiny_data: Path, tmp_path: Path, trained: Counted
) -> None:
    train(cyclic(tiny_data, 4, **other), tmp_path / "4")
    trained.clear()
    train(cyclic(tiny_data, 12), tmp_path / "12", shorter=[tmp_path / "4"])
    assert trained == list(range(12))


def test_it_does_not_go_on_from_an_unfinished_run(tiny_data: Path, tmp_path: Path, trained: Counted) -> None:
    train(cyclic(tiny_data, 4), tmp_path / "4")
    (tmp_path / "4" / "record.json").unlink()
    trained.clear()
    train(cyclic(tiny_data, 12), tmp_path / "12", shorter=[tmp_path / "4", tmp_path / "nowhere"])
    assert trained == list(range(12))


def test_a_run_with_a_checkpoint_of_its_own_goes_on_from_that(
    tiny_data: Path, tmp_path: Path, trained: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(cyclic(tiny_data, 4), tmp_path / "4")

    def stop(step: int, total_steps: int, loss: float) -> None:
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cyclic(tiny_data, 12), tmp_path / "12", shorter=[tmp_path / "4"], progress=stop)
    trained.clear()
    train(cyclic(tiny_data, 12), tmp_path / "12", shorter=[tmp_path / "4"])
    assert trained == list(range(8, 12))
