"""Weights are read without executing code; what is missing, damaged or dangerous is refused in words."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from headstart.errors import TeacherError
from headstart.teachers import read_weights

WEIGHTS = {"layer.weight": torch.arange(12.0).view(3, 4), "layer.bias": torch.ones(3)}


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "code ran")


def check_equal(found: dict[str, Tensor]) -> None:
    assert set(found) == set(WEIGHTS)
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


def write(path: Path) -> Path:
    save_file(WEIGHTS, path) if path.suffix == ".safetensors" else torch.save(WEIGHTS, path)
    return path


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth", "th", "bin"])
def test_weights_come_back(suffix: str, tmp_path: Path) -> None:
    check_equal(read_weights(write(tmp_path / f"w.{suffix}")))


def test_the_format_before_torch_1_6_is_read(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    check_equal(read_weights(tmp_path / "w.pt"))


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_checkpoints_state_dict_is_found_and_wrappers_are_taken_off(nest: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: value for name, value in WEIGHTS.items()}
    torch.save({nest: state, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "c.pt")
    check_equal(read_weights(tmp_path / "c.pt"))


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_in_it_is_refused_and_its_code_does_not_run(
    suffix: str, legacy: bool, tmp_path: Path
) -> None:
    path, trace = tmp_path / f"evil.{suffix}", tmp_path / "trace"
    torch.save({**WEIGHTS, "x": Attack(trace)}, path, _use_new_zipfile_serialization=not legacy)
    message = "cannot be read as safetensors" if suffix == "safetensors" else "is refused, as reading it could execute"
    with pytest.raises(TeacherError, match=message):
        read_weights(path)
    assert not trace.exists()


def test_a_plain_pickle_with_code_in_it_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Attack(trace), protocol=2))
    with pytest.raises(
        TeacherError, match=r"is refused.*save the weights alone: torch.save\(model.state_dict\(\), path\)"
    ):
        read_weights(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.read_text() == "code ran"


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), tmp_path / "module.pt")
    with pytest.raises(TeacherError, match="is refused"):
        read_weights(tmp_path / "module.pt")


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_weights_are_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = write(tmp_path / f"w.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TeacherError, match=f"w.{suffix}: (is refused|cannot be read).*damaged"):
        read_weights(path)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_bytes_that_are_no_weights_are_refused(suffix: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 7, 8, 50, 500):
        content = bytes(torch.randint(256, (size,), generator=generator).tolist())
        (tmp_path / f"w.{suffix}").write_bytes(content)
        with pytest.raises(TeacherError, match="damaged"):
            read_weights(tmp_path / f"w.{suffix}")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=f"{name}: no such file; a teacher's weights are a .safetensors or"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(3), "holds a Tensor, not a state dict"),
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 3}, r"holds no tensors; save the model's state_dict\(\)"),
        ({}, "holds no tensors"),
    ],
    ids=["tensor", "list", "numbers", "nothing"],
)
def test_what_is_no_state_dict_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(TeacherError, match=message):
        read_weights(tmp_path / "w.pt")


def write_parts(folder: Path, weight_map: dict[str, str]) -> Path:
    """An index, and a file for each of the parts that it names."""
    for part in set(weight_map.values()):
        save_file(
            {name: WEIGHTS[name] for name, place in weight_map.items() if place == part}, folder / Path(part).name
        )
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return index


PARTS = {"layer.weight": "model-1-of-2.safetensors", "layer.bias": "model-2-of-2.safetensors"}


def test_weights_in_parts_come_back_whole(tmp_path: Path) -> None:
    check_equal(read_weights(write_parts(tmp_path, PARTS)))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    index = write_parts(tmp_path, PARTS)
    (tmp_path / "model-2-of-2.safetensors").unlink()
    with pytest.raises(TeacherError, match=r"model-2-of-2.safetensors: no such file"):
        read_weights(index)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": ["b"]}}'])
def test_what_is_no_index_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(content, encoding="utf-8")
    with pytest.raises(TeacherError, match=r"w.json: is no index of weights in parts"):
        read_weights(tmp_path / "w.json")


@pytest.mark.parametrize("name", ["../model.safetensors", "/model.safetensors", "index.json"])
def test_an_index_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    index = write_parts(tmp_path, dict.fromkeys(WEIGHTS, name))
    with pytest.raises(TeacherError, match="which is no weights' file of the same folder"):
        read_weights(index)


def test_a_lightning_checkpoint_is_read_without_its_code(tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in WEIGHTS.items()}
    content = {"state_dict": state, "pytorch-lightning_version": "2.4.0", "hyper_parameters": {"lr": 0.1}, "epoch": 3}
    torch.save(content, tmp_path / "last.ckpt")
    assert set(read_weights(tmp_path / "last.ckpt")) == set(state)
    torch.save({**content, "hyper_parameters": Attack(tmp_path / "trace")}, tmp_path / "evil.ckpt")
    with pytest.raises(TeacherError, match="is refused, as reading it could execute code"):
        read_weights(tmp_path / "evil.ckpt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_archive_of_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), str(tmp_path / "old.pt"))
    with pytest.raises(TeacherError, match=r"an archive of TorchScript, which holds code .* torch.jit.load"):
        read_weights(tmp_path / "old.pt")
