"""Checkpoints as training programs leave them: nests, wrappers, parents, averages, settings beside the weights."""

from __future__ import annotations

import argparse
import collections
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from headstart.errors import TeacherError
from headstart.teachers import TeacherOptions, load_teacher, read_weights

State = dict[str, Tensor]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 3))


@pytest.fixture
def model() -> nn.Module:
    return build()


def loads(content: Any, path: Path, model: nn.Module, **options: Any) -> bool:
    """Whether the teacher of a file of this content has the model's weights."""
    torch.save(content, path)
    teacher = load_teacher(path, build=build, options=TeacherOptions.model_validate(options))
    found = teacher.module.state_dict()
    return all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def renamed(state: State, prefix: str = "", infix: str = "") -> State:
    return {prefix + name.replace("1.0.", f"1.{infix}0."): value for name, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "net.", "student.model.module.", "anything."]
)
@pytest.mark.parametrize(
    "infix", ["", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module._fsdp_wrapped_module."]
)
def test_wrappers_and_parents(prefix: str, infix: str, model: nn.Module, tmp_path: Path) -> None:
    assert loads(renamed(model.state_dict(), prefix, infix), tmp_path / "old.pt", model)


@pytest.mark.parametrize("place", ["net", "state_dict", "ema", "state/model", "model/state_dict", "a/b/c"])
def test_nests(place: str, model: nn.Module, tmp_path: Path) -> None:
    content: Any = renamed(model.state_dict(), "module.")
    optimizer = torch.optim.Adam(model.parameters())
    for key in reversed(place.split("/")):
        content = {key: content, "epoch": 3, "best": torch.tensor(0.5), "optimizer": optimizer.state_dict()}
    assert loads(content, tmp_path / "model_best.pth.tar", model)


def test_an_averaged_model_of_torch(model: nn.Module, tmp_path: Path) -> None:
    assert loads(AveragedModel(model).state_dict(), tmp_path / "swa.pt", model)


def pairs(raw: State, averaged: State) -> dict[str, Any]:
    both = {f"model.{name}": value for name, value in raw.items()}
    both |= {f"ema_model.{name}": value for name, value in averaged.items()}
    return {
        "timm": {"state_dict": raw, "state_dict_ema": averaged},
        "detectors": {"model": raw, "ema": {"module": averaged, "updates": 3}},
        "two prefixes": {"state_dict": both},
        "WeightAveraging": {"state_dict": averaged, "current_model_state": raw, "averaging_state": {"n_averaged": 3}},
    }


@pytest.mark.parametrize("kind", list(pairs({}, {})))
def test_averaged_weights_are_taken_unless_told_otherwise_and_it_is_said(
    kind: str, model: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = build()
    content = pairs(raw.state_dict(), model.state_dict())[kind]
    with caplog.at_level(logging.WARNING):
        assert loads(content, tmp_path / "old.ckpt", model)
    assert "averaged" in caplog.text and "weights='raw'" in caplog.text
    caplog.clear()
    assert loads(content, tmp_path / "old.ckpt", model, weights="ema")
    assert loads(content, tmp_path / "old.ckpt", raw, weights="raw")
    assert not caplog.text


def test_which_of_two_models_is_meant_is_asked(model: nn.Module, tmp_path: Path) -> None:
    content = {"student": build().state_dict(), "teacher": model.state_dict()}
    with pytest.raises(TeacherError, match=r"holds several models .*'student', 'teacher'.*weights='student'"):
        loads(content, tmp_path / "old.pt", model)
    assert loads(content, tmp_path / "old.pt", model, weights="teacher")
    with pytest.raises(TeacherError, match="has no weights 'ema' that fit; it has 'student', 'teacher'"):
        loads(content, tmp_path / "old.pt", model, weights="ema")


BESIDE = {
    "argparse": argparse.Namespace(lr=0.1, inner=argparse.Namespace(a=1)),
    "numpy number": np.float64(0.9),
    "numpy array": np.arange(3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], maxlen=3),
    "path": Path("here"),
}


@pytest.mark.parametrize("name", list(BESIDE))
def test_settings_beside_the_weights_are_passed_over(name: str, model: nn.Module, tmp_path: Path) -> None:
    assert loads({"state_dict": model.state_dict(), "beside": BESIDE[name]}, tmp_path / "last.pth.tar", model)


def test_what_a_refused_file_holds_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": build().state_dict(), "beside": nn.ReLU()}, tmp_path / "old.pt")
    with pytest.raises(TeacherError, match=r"it holds torch\.nn\.modules\.activation\.ReLU beside its tensors"):
        read_weights(tmp_path / "old.pt")


def test_a_file_that_does_not_fit_is_told_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"net": nn.Linear(4, 3).state_dict()}, tmp_path / "old.pt")
    with pytest.raises(TeacherError, match=r"0.weight is missing, and 5 more; the file has weight, .*holds 'net'"):
        load_teacher(tmp_path / "old.pt", build=build)
