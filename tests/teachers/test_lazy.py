"""Weights that are read tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headstart.errors import TeacherError
from headstart.teachers.lazy import LazyTensors, lazy_weights

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(5)}


def sharded(folder: Path) -> Path:
    save_file({name: TENSORS[name] for name in ("a.weight", "b")}, folder / "model-1.safetensors")
    save_file({"c": TENSORS["c"]}, folder / "model-2.safetensors")
    names = {"a.weight": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    return index


def test_parts_are_one_mapping_whose_shapes_cost_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = lazy_weights(sharded(tmp_path))
    assert isinstance(tensors, LazyTensors)
    assert dict(tensors.shapes) == {name: tuple(value.shape) for name, value in TENSORS.items()}
    assert set(tensors) == set(TENSORS) and len(tensors) == 3
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype
        assert tensors[name] is not tensors[name]  # none is kept
    with pytest.raises(KeyError):
        tensors["d"]


def test_other_files_are_read_at_once(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS}, tmp_path / "old.pt")
    tensors = lazy_weights(tmp_path / "old.pt")
    assert isinstance(tensors, dict) and tensors.keys() == TENSORS.keys()


@pytest.mark.parametrize("damage", ["missing", "truncated", "lost", "twice"])
def test_a_damaged_part_is_named(damage: str, tmp_path: Path) -> None:
    index = sharded(tmp_path)
    part = tmp_path / "model-2.safetensors"
    if damage == "missing":
        part.unlink()
        message = r"model-2.safetensors: no such file; the index beside it names it"
    elif damage == "truncated":
        part.write_bytes(part.read_bytes()[:-4])
        message = r"model-2.safetensors: cannot be read as safetensors .*truncated or damaged"
    elif damage == "lost":
        save_file({}, part)
        message = r"index.json: names c in model-2.safetensors, which does not hold it"
    else:
        save_file({"b": TENSORS["b"]}, part)
        message = r"model-2.safetensors: holds b, which model-1.safetensors holds, too"
    with pytest.raises(TeacherError, match=message):
        lazy_weights(index)
