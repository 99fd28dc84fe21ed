"""`precision: auto` in recipes, run folders and races."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import headstart.precision
from headstart.experiment.calibrate import calibrate
from headstart.experiment.race import race_recipe
from headstart.recipe.load import load_recipe
from headstart.recipe.step_kinds import plain_kind
from headstart.train import precision
from headstart.train.precision import precision_told, settled, settled_in
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import racing, tiny_recipe


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_told", set())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes this machine one with or without bfloat16 in hardware."""

    def make(hardware: bool) -> None:
        monkeypatch.setattr(headstart.precision, "has_bf16", lambda device: hardware)

    yield make


def left_to_the_device(data: Path, **changes: Any) -> Any:
    return tiny_recipe(data, train__precision="auto", **changes)


def test_auto_is_the_default() -> None:
    assert type(tiny_recipe(Path("x")).train)(steps=1).precision == "auto"


@pytest.mark.parametrize(("hardware", "chosen"), [(False, "fp32"), (True, "bf16")])
def test_a_run_says_what_was_chosen(hardware: bool, chosen: str, machine: Any, tiny_data: Path, tmp_path: Path) -> None:
    machine(hardware)
    asked = left_to_the_device(tiny_data)
    record = train(asked, tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml").train.precision == chosen
    assert record.settings["train"]["precision"] == chosen
    assert list(record.steps) == [plain_kind(tiny_recipe(tiny_data, train__precision=chosen))]
    assert precision_told(asked, settled(asked)).startswith(f"precision {chosen} (auto: this ")


def test_auto_trains_as_the_explicit_one(machine: Any, tiny_data: Path) -> None:
    losses = []
    for hardware, asked in ((False, "auto"), (True, "fp32"), (True, "auto"), (False, "bf16")):
        machine(hardware)
        losses.append(Session(tiny_recipe(tiny_data, train__precision=asked)).train_step(0).item())
    assert losses[0] == losses[1] and losses[2] == losses[3] and losses[0] != losses[2]


def test_a_run_goes_on_as_it_began(
    machine: Any, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine(False)
    asked = left_to_the_device(tiny_data)
    first = train(asked, tmp_path)
    machine(True)
    with caplog.at_level(logging.WARNING):
        assert train(asked, tmp_path) == first
    assert f"{tmp_path}: began with train.precision=fp32 and goes on with it" in caplog.text
    assert "auto would be bf16" in caplog.text
    assert "as this was begun" in precision_told(asked, settled_in(asked, tmp_path / "recipe.yaml"))


@pytest.mark.parametrize("content", [b"", b"- a\n", b"train: 3\n", b"train: {precision: fp8}\n", b"{", b"\xff"])
def test_a_file_that_is_no_recipe_decides_nothing(content: bytes, machine: Any, tmp_path: Path) -> None:
    machine(True)
    (tmp_path / "recipe.yaml").write_bytes(content)
    assert settled_in(left_to_the_device(Path("x")), tmp_path / "recipe.yaml").train.precision == "bf16"


def test_a_glue_score_is_settled_too(machine: Any) -> None:
    from headstart.recipe.load import parse_recipe

    machine(True)
    content = {"task": "mlm", "data": {"name": "x"}, "train": {"steps": 2, "precision": "fp32"}, "glue": {}}
    made: Any = settled(parse_recipe(content, "here"), "glue: {precision: fp32}")
    assert (made.train.precision, made.glue.precision) == ("fp32", "fp32")
    assert settled(parse_recipe(content, "here")).glue.precision == "bf16"  # type: ignore[attr-defined]


def test_explicit_bf16_warns_once(
    machine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(False)
    monkeypatch.setattr(headstart.precision, "bf16_slowdown", lambda device: 8.04)
    for _ in range(2):
        settled(tiny_recipe(Path("x"), train__precision="bf16"))
    assert caplog.text.count("8.0 times as long") == 1


def test_a_calibration_knows_the_kinds_of_what_ran(machine: Any, tiny_data: Path) -> None:
    machine(False)
    assert list(calibrate([left_to_the_device(tiny_data)], pairs=1).kinds) == [plain_kind(tiny_recipe(tiny_data))]


def test_a_race_is_of_one_precision_and_keeps_it(machine: Any, tiny_data: Path, tmp_path: Path) -> None:
    machine(False)
    recipe = racing(tiny_data, train__precision="auto")
    notes: list[str] = []
    record = race_recipe(recipe, tmp_path, watcher=noting(notes))
    assert "precision: fp32" in record.recipe
    assert {run.settings["train"]["precision"] for run in record.runs} == {"fp32"}
    assert record.calibration is not None
    assert set().union(*(run.steps for run in record.runs)) <= set(record.calibration.kinds)
    machine(True)
    again = race_recipe(recipe, tmp_path, watcher=noting(notes))
    assert again.runs == record.runs and not again.failures
    assert notes[0].startswith("precision fp32 (auto") and notes[1] == "precision fp32 (as this was begun)"


def test_a_race_whose_teachers_alone_were_begun_keeps_theirs(machine: Any, tiny_data: Path, tmp_path: Path) -> None:
    machine(False)
    recipe = racing(tiny_data, train__precision="auto")
    train(tiny_recipe(tiny_data), tmp_path / "teachers" / "another")
    machine(True)
    notes: list[str] = []
    race_recipe(recipe, tmp_path, watcher=noting(notes))
    assert notes == ["precision fp32 (as this was begun)"]


def noting(notes: list[str]) -> Any:
    from headstart.train.watcher import SilentWatcher

    class Noting(SilentWatcher):
        def note(self, line: str) -> None:
            notes.append(line)

    return Noting()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_run_is_settled_for_the_gpu(tiny_data: Path) -> None:
    expected = "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp32"
    assert settled(left_to_the_device(tiny_data)).train.precision == expected
