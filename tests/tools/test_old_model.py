"""The old model that the repository brings: how it is made of a run, and that it can teach the demo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from old_model import halve
from safetensors.torch import load_file, save_file

from headstart import load_teacher
from headstart.errors import TeacherError
from headstart.recipe.load import load_recipe
from headstart.teachers.find import find_teacher
from headstart.train.run import train
from quote_figures import ROOT
from tests.tiny import tiny_recipe


def test_a_halved_run_teaches_what_the_run_does(tiny_data: Path, tmp_path: Path) -> None:
    record = train(tiny_recipe(tiny_data), tmp_path / "run")
    halve(tmp_path / "run", tmp_path / "half")
    old, new = load_teacher(tmp_path / "run"), load_teacher(tmp_path / "half")
    images = torch.rand(16, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(new.module(images), old.module(images), rtol=0.01, atol=0.01)
    floats = [
        tensor
        for tensor in load_file(tmp_path / "half" / "model.safetensors").values()
        if tensor.dtype.is_floating_point
    ]
    assert {tensor.dtype for tensor in floats} == {torch.float16}
    assert {parameter.dtype for parameter in new.module.parameters()} == {torch.float32}
    found = find_teacher(tmp_path / "half")
    assert found.kind == "run" and found.record == record


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="has no recipe"):
        halve(tmp_path, tmp_path / "out")


def test_a_weight_too_large_for_half_precision_is_refused(tmp_path: Path) -> None:
    for name in ("recipe.yaml", "record.json"):
        (tmp_path / name).write_text("{}")
    save_file({"w": torch.tensor([1e6])}, tmp_path / "model.safetensors")
    with pytest.raises(TeacherError, match="w: holds numbers above 65504"):
        halve(tmp_path, tmp_path / "out")


def test_the_old_model_of_the_repository_is_its_recipes() -> None:
    folder = ROOT / "examples" / "old-model"
    made, asked = load_recipe(folder / "recipe.yaml"), load_recipe(ROOT / "recipes" / "old-model.yaml")
    assert (made.model, made.data, made.train) == (asked.model, asked.data, asked.train)
    record = find_teacher(folder).record
    assert record is not None and record.quality > 0.92
    logits = load_teacher(folder).module(torch.zeros(2, 1, 28, 28))
    assert logits.shape == (2, 10) and bool(logits.isfinite().all())


def test_the_demo_is_taught_by_it() -> None:
    demo = load_recipe(ROOT / "recipes" / "demo.yaml")
    assert demo.race is not None and demo.distill is not None
    assert [teacher.spec for teacher in demo.distill.teachers] == ["examples/old-model"]
    assert demo.teachers == {}, "the demo trains no teacher"
