"""From a spec to a ready teacher: run folders, files with a builder, other people's checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from headstart.errors import TeacherError
from headstart.tasks.images import load_images
from headstart.tasks.images.resnet import ResNet
from headstart.teachers import DESCRIPTION_KEY, find_teacher, load_teacher
from tests.tiny import write_run

IMAGES = torch.rand(4, 3, 8, 8)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", mean=MEAN, std=STD)


def build() -> nn.Module:
    return ResNet(8, classes=3, width=4)


def describe(path: Path, description: Any) -> Path:
    """Write a run's weights again with another description, or none."""
    metadata = None if description is None else {DESCRIPTION_KEY: json.dumps(description)}
    save_file(load_file(path / "model.safetensors"), path / "model.safetensors", metadata)
    return path


def test_a_run_folder_is_a_frozen_teacher_with_the_runs_weights(run: Path) -> None:
    teacher = load_teacher(run)
    model = build()
    model.load_state_dict(load_file(run / "model.safetensors"))
    assert teacher.name == "run" and not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert torch.equal(teacher.logits(IMAGES), model.eval()(IMAGES))


def test_so_is_the_weights_file_in_it(run: Path) -> None:
    teacher = load_teacher(run / "model.safetensors")
    assert teacher.name == "model"
    assert torch.equal(teacher.logits(IMAGES), load_teacher(run).logits(IMAGES))


@pytest.mark.parametrize("name", ["baseline-b0.5-s0", "T=4, half", "v1.0"])
def test_a_run_folder_may_have_a_dot_in_its_name(name: str, tmp_path: Path) -> None:
    assert load_teacher(write_run(tmp_path / name)).name == name


def test_the_record_beside_the_weights_is_found(run: Path, tmp_path: Path) -> None:
    found = find_teacher(run)
    assert found.record is not None and found.record.quality == 0.9
    assert found.description["classes"] == ["0", "1", "2"]
    alone = tmp_path / "alone.safetensors"
    (run / "model.safetensors").rename(alone)
    assert find_teacher(alone).record is None


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_file_of_weights_needs_a_builder(suffix: str, tmp_path: Path) -> None:
    path, model = tmp_path / f"weights.{suffix}", build().eval()
    save_file(model.state_dict(), path) if suffix == "safetensors" else torch.save(model.state_dict(), path)
    teacher = load_teacher(path, build=build, name="old")
    assert teacher.name == "old"
    assert torch.equal(teacher.logits(IMAGES), model(IMAGES))
    with pytest.raises(TeacherError, match=r"weights.*load_teacher\(path, build=lambda: MyModel\(\)\)"):
        load_teacher(path)


def test_other_normalisation_of_the_student_is_undone(run: Path) -> None:
    """On raw images: what the teacher computes from the student's inputs is what it computes from its own."""
    mean, std = (0.1, 0.3, 0.5), (0.5, 0.3, 0.7)
    expected = load_teacher(run).module(normalised(MEAN, STD))
    found = load_teacher(run, mean=mean, std=std).logits(normalised(mean, std))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(load_teacher(run).logits(normalised(mean, std)), expected, atol=1e-2)


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (IMAGES - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def test_equal_normalisation_costs_nothing(run: Path) -> None:
    assert load_teacher(run, mean=MEAN, std=STD).prepare is None


def test_renormalising_keeps_the_dtype(run: Path) -> None:
    teacher = load_teacher(run, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert teacher.prepare is not None and teacher.prepare(IMAGES.bfloat16()).dtype == torch.bfloat16


def test_images_of_other_channels_are_refused(run: Path) -> None:
    with pytest.raises(TeacherError, match="run: takes images of 3 channels, the student's have 1"):
        load_teacher(run, mean=(0.5,), std=(0.2,))


def test_weights_of_another_architecture_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TeacherError, match=r"the weights do not fit Linear: Missing key\(s\) in state_dict: \"weight\""
    ):
        load_teacher(run / "model.safetensors", build=lambda: nn.Linear(2, 3))
    with pytest.raises(TeacherError, match=r"the weights do not fit ResNet: .{1,200}$"):
        load_teacher(run / "model.safetensors", build=lambda: ResNet(20, classes=3, width=4))
    with pytest.raises(TeacherError, match="size mismatch"):
        load_teacher(run / "model.safetensors", build=lambda: ResNet(8, classes=4, width=4))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for spec in (tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(TeacherError, match=f"{spec.name}: no such run folder or file"):
            load_teacher(spec)
    with pytest.raises(
        TeacherError, match=r"no model.safetensors in this folder; the run has not finished, or it is no"
    ):
        load_teacher(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.9])
def test_truncated_weights_of_a_run_are_refused(share: float, run: Path) -> None:
    path = run / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TeacherError, match=r"model.safetensors: cannot be read as safetensors"):
        load_teacher(run)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "does not say which model it is for .no run of headstart wrote it.; give a builder"),
        ([1], "does not say which model"),
        ({}, "does not name a model that can be built"),
        ({"model": {"name": "vgg"}, "classes": ["a"], "channels": 3}, "that can be built .model.name='vgg' is unknown"),
        ({"model": {"nam": "resnet8"}, "classes": ["a"], "channels": 3}, "that can be built"),
        ({"model": {"name": "resnet8", "width": 4}, "classes": 3, "channels": 3}, "that can be built"),
    ],
    ids=["none", "list", "empty", "unknown model", "unknown key", "no classes"],
)
def test_a_file_that_does_not_say_what_it_holds_is_refused(description: Any, message: str, run: Path) -> None:
    with pytest.raises(TeacherError, match=message):
        load_teacher(describe(run, description))


def test_a_description_without_normalisation_is_refused_where_it_is_needed(run: Path) -> None:
    described = {"model": {"name": "resnet8", "width": 4}, "classes": ["a", "b", "c"], "channels": 3}
    with pytest.raises(TeacherError, match="does not say how images are normalised"):
        load_teacher(describe(run, described), mean=MEAN, std=STD)


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_checkpoints_load_with_a_builder(depth: int, research_data: Path) -> None:
    files = sorted(research_data.glob(f"checkpoints/cifar10-resnet-akamaster/resnet{depth}-*.th"))
    if not files:
        pytest.skip("HEADSTART_DATA holds no checkpoints/cifar10-resnet-akamaster")
    teacher = load_teacher(files[0], build=lambda: ResNet(depth, classes=10))
    assert teacher.logits(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_published_checkpoint_recognises_what_it_was_trained_for(research_data: Path) -> None:
    """It reaches 91.8 % on the original images and 82.5 % on this lossy copy: ours is the network it was made for."""
    files = sorted(research_data.glob("checkpoints/cifar10-resnet-akamaster/resnet20-*.th"))
    if not files or not (research_data / "cifar10-jpeg75").exists():
        pytest.skip("HEADSTART_DATA lacks the checkpoint or cifar10-jpeg75")
    data = load_images("cifar10-jpeg75", "test")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (data.images[:500] / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    teacher = load_teacher(files[0], build=lambda: ResNet(20, classes=10))
    right = teacher.logits(images).argmax(1) == data.labels[:500]
    assert float(right.float().mean()) > 0.78
