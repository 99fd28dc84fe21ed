"""What a spec leads to, without fetching or reading weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from headstart.errors import TeacherError
from headstart.teachers import expand_spec, find_teacher, find_teachers
from tests.tiny import write_run

WEIGHTS = {"weight": torch.ones(2, 3)}


def write(folder: Path, name: str = "model.safetensors", config: Any = None, state: Any = None) -> Path:
    """A folder as libraries leave it: weights, and what stands beside them."""
    folder.mkdir(parents=True)
    if name.endswith(".safetensors"):
        save_file(WEIGHTS, folder / name, {"format": "pt"})
    else:
        torch.save(WEIGHTS, folder / name)
    for file, content in (("config.json", config), ("trainer_state.json", state)):
        if content is not None:
            (folder / file).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_run(tmp_path: Path) -> None:
    for spec in (write_run(tmp_path / "run"), tmp_path / "run" / "model.safetensors"):
        found = find_teacher(spec)
        assert (found.kind, found.spec) == ("run", str(spec))
        assert found.path == tmp_path / "run" / "model.safetensors"
        assert found.description["classes"] == ["0", "1", "2"]
        assert found.record is not None and found.quality == {"accuracy": 0.9}


def test_a_path_from_somebodys_home_is_found_where_no_shell_has_seen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a recipe."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write_run(tmp_path / "runs" / "old")
    write(tmp_path / "model", config={})
    assert find_teacher("~/runs/old").path == tmp_path / "runs" / "old" / "model.safetensors"
    assert find_teacher("hf:~/model").path == tmp_path / "model" / "model.safetensors"
    assert expand_spec("~/runs/*") == [str(tmp_path / "runs" / "old")]
    with pytest.raises(TeacherError, match=r"^~/nothing: no such run folder or file"):
        find_teacher("~/nothing")
    with pytest.raises(TeacherError, match=r"^~nobody-of-that-name/x: no such run folder or file"):
        find_teacher("~nobody-of-that-name/x")


def test_a_link_and_a_name_with_spaces_lead_to_a_run(tmp_path: Path) -> None:
    """As caches of the Hub are made of links to files whose names say nothing."""
    run = write_run(tmp_path / "an old rün")
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    (tmp_path / "blob").write_bytes((run / "model.safetensors").read_bytes())
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(tmp_path / "blob")
    for spec in (run, tmp_path / "link", tmp_path / "snapshot"):
        assert find_teacher(spec).kind == "run"
    with pytest.raises(TeacherError, match=r"^C:\\models\\old: no such run folder or file"):
        find_teacher("C:\\models\\old")


def test_a_run_without_its_record(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    found = find_teacher(tmp_path / "run")
    assert found.record is None and found.quality == {}


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    folder = write(tmp_path / "bert", config={"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    for spec in (str(folder), f"hf:{folder}"):
        found = find_teacher(spec)
        assert (found.spec, found.kind, found.place) == (spec, "transformers", str(folder))
        assert found.path == folder / "model.safetensors" and found.quality == {}


def test_a_folder_of_timm(tmp_path: Path) -> None:
    folder = write(tmp_path / "net", config={"architecture": "resnet18", "pretrained_cfg": {}})
    found = find_teacher(folder)
    assert (found.kind, found.place) == ("timm", f"local-dir:{folder}")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "epoch=1-step=10.ckpt"])
def test_a_folder_of_weights_alone_as_accelerate_and_lightning_leave_it(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint", name)
    found = find_teacher(folder)
    assert (found.kind, found.path) == ("weights", folder / name)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.th", "w.bin", "w.ckpt"])
def test_a_file_of_weights_alone(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "any", name) / name
    assert (find_teacher(path).kind, find_teacher(path).path) == ("weights", path)


def test_the_index_is_preferred_to_old_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "large", "pytorch_model.bin")
    (folder / "model.safetensors.index.json").write_text("{}")
    assert find_teacher(folder).path == folder / "model.safetensors.index.json"


HISTORY = [
    {"step": 10, "loss": 3.0},
    {"step": 10, "eval_loss": 1.5, "eval_accuracy": 0.5, "eval_runtime": 2.0, "eval_samples_per_second": 9.0},
    {"step": 20, "eval_runtime": 2.0, "eval_loss": 1.25, "eval_accuracy": 0.625, "eval_steps_per_second": 9.0},
    {"step": 25, "loss": 2.0},
]


@pytest.mark.parametrize(
    ("history", "quality"),
    [
        (HISTORY, {"accuracy": 0.625}),
        ([{"eval_loss": 1.5, "eval_runtime": 2.0}], {"loss": 1.5}),
        ([{"loss": 3.0}], {}),
        ([], {}),
    ],
)
def test_what_a_trainer_noted_last_is_the_quality(history: Any, quality: dict[str, float], tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-20", config={"model_type": "bert"}, state={"log_history": history})
    assert find_teacher(folder).quality == quality


@pytest.mark.parametrize(
    ("spec", "kind", "place"),
    [
        ("hf:org/name", "transformers", "org/name"),
        ("hf:org/name@v1.0", "transformers", "org/name@v1.0"),
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k"),
        ("torchvision:resnet18/IMAGENET1K_V1", "torchvision", "resnet18/IMAGENET1K_V1"),
    ],
)
def test_names_in_libraries_are_only_taken_apart(
    spec: str, kind: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    found = find_teacher(spec)
    assert (found.spec, found.kind, found.place, found.path) == (spec, kind, place, None)


@pytest.mark.parametrize(("spec", "extra"), [("hf:a/b", "text"), ("timm:a", "vision"), ("torchvision:a", "vision")])
def test_a_library_that_is_missing_is_named(spec: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TeacherError, match=rf"{spec}: needs \w+, which is not installed; .*headstart\[{extra}\]"):
        find_teacher(spec)


def test_what_is_not_there(tmp_path: Path) -> None:
    for spec in ("nowhere", "nowhere.safetensors", "nohub:name"):
        with pytest.raises(TeacherError, match=f"{spec}: no such run folder or file; other teachers are hf:OWNER/NAME"):
            find_teacher(tmp_path / spec)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(TeacherError, match=r"notes.txt: is no file of weights by its name; known are .safetensors, "):
        find_teacher(tmp_path / "notes.txt")


def test_a_folder_without_weights_says_what_may_have_been_meant(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TeacherError, match=r"empty: no model.safetensors in this folder; the run has not finished, or"):
        find_teacher(empty)
    write(tmp_path / "trainer" / "checkpoint-9", config={})
    with pytest.raises(TeacherError, match=r"trainer: .*give one of its checkpoints, for example .*checkpoint-9"):
        find_teacher(tmp_path / "trainer")
    folder = write(tmp_path / "lightning", "a.ckpt")
    torch.save(WEIGHTS, folder / "b.ckpt")
    with pytest.raises(TeacherError, match=r"lightning: .*for example .*b.ckpt"):
        find_teacher(folder)
    (tmp_path / "fsdp" / "pytorch_model_fsdp_0").mkdir(parents=True)
    (tmp_path / "fsdp" / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"")
    with pytest.raises(TeacherError, match=r"fsdp: .*put them together with accelerate merge-weights"):
        find_teacher(tmp_path / "fsdp")


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "broken")
    (folder / "config.json").write_text("{")
    with pytest.raises(TeacherError, match=r"broken/config.json: cannot be read as JSON"):
        find_teacher(folder)


def test_a_pattern_stands_for_the_teachers_among_its_matches(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "runs" / name) for name in ("b", "a")]
    (tmp_path / "runs" / "unfinished").mkdir()
    (tmp_path / "runs" / "report.html").write_text("")
    pattern = str(tmp_path / "runs" / "*")
    assert expand_spec(pattern) == [str(runs[1]), str(runs[0])]
    assert [found.spec for found in find_teachers([runs[0], pattern])] == [str(runs[0]), str(runs[1]), str(runs[0])]


def test_what_is_no_pattern_stays(tmp_path: Path) -> None:
    (tmp_path / "run [1]").mkdir()
    for spec in ("runs/one", "timm:net*", str(tmp_path / "run [1]")):
        assert expand_spec(spec) == [spec]


def test_a_pattern_without_teachers(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"none-\*: matches no teacher$"):
        expand_spec(str(tmp_path / "none-*"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TeacherError, match=r"e\*: matches no teacher \(.*empty: no model.safetensors"):
        expand_spec(str(tmp_path / "e*"))


def test_weights_of_another_library_are_named(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").write_bytes(b"x")
    with pytest.raises(TeacherError, match=r"tf_model.h5 is of TensorFlow or Flax; save the model from PyTorch"):
        find_teacher(tmp_path)
