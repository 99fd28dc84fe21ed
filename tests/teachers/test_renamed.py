"""Checkpoints whose files have other names than the model in memory, against what `from_pretrained` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from headstart.init import init_from
from headstart.teachers import renamed
from headstart.teachers.lazy import LazyTensors
from headstart.teachers.source import load_source

transformers = pytest.importorskip("transformers")
conversion_mapping = pytest.importorskip("transformers.conversion_mapping")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
IMAGES = {"image_size": 16, "patch_size": 4, "num_labels": 3}
WORDS = {"vocab_size": 30, "max_position_embeddings": 16}


def vit(depth: int = 2) -> Any:
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**(SIZES | IMAGES | {"num_hidden_layers": depth}))
    )


def bert(kind: str = "BertForMaskedLM") -> Any:
    return getattr(transformers, kind)(transformers.BertConfig(**SIZES, **WORDS))


def with_old_norms(folder: Path) -> None:
    """As the first checkpoints of BERT are on the Hub."""
    path = folder / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(path).items()
    }
    assert any(name.endswith("LayerNorm.gamma") for name in old)
    save_file(old, path, {"format": "pt"})


def stir(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def assert_as_loaded(folder: Path, student: Any) -> None:
    """A student of the same shape gets what `from_pretrained` reads, without a module."""
    source = load_source(str(folder))
    assert isinstance(source.weights, LazyTensors)
    inherited = init_from(student, source.weights, source_config=source.config)
    assert inherited.share == 1 and {row.what for row in inherited.tensors} == {"copied"}
    loaded = type(student).from_pretrained(folder).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in student.state_dict().items())


def test_a_vit_in_a_folder_is_taken_by_its_names_in_memory(tmp_path: Path) -> None:
    stir(vit()).save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "vit.layers." in name]
    assert_as_loaded(tmp_path, vit())


def test_a_vit_in_a_folder_is_cut_like_the_module(tmp_path: Path) -> None:
    old = stir(vit(depth=4))
    old.save_pretrained(tmp_path)
    source, student, again = load_source(str(tmp_path)), vit(), vit()
    assert init_from(student, source.weights, source_config=source.config).share == 1
    init_from(again, old)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForPreTraining", "BertModel"])
def test_norms_by_the_names_of_tensorflow_are_taken(kind: str, tmp_path: Path) -> None:
    stir(bert(kind)).save_pretrained(tmp_path)
    with_old_norms(tmp_path)
    assert_as_loaded(tmp_path, bert(kind))


def test_and_by_a_version_of_the_library_that_renames_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stir(bert()).save_pretrained(tmp_path)
    with_old_norms(tmp_path)
    monkeypatch.delattr(conversion_mapping, "get_model_conversion_mapping")
    assert_as_loaded(tmp_path, bert())


def test_a_class_that_transformers_does_not_have_keeps_its_names() -> None:
    config = transformers.BertConfig(**SIZES, **WORDS, architectures=["BertOfMyOwn"])
    assert renamed.names_in_memory(["bert.embeddings.LayerNorm.gamma", "own.weight"], config) == {
        "bert.embeddings.LayerNorm.gamma": "bert.embeddings.LayerNorm.weight",
        "own.weight": "own.weight",
    }


def test_tensors_that_are_joined_on_loading_are_read_as_a_whole(tmp_path: Path) -> None:
    """Experts of Mixtral lie one by one in the file and as one tensor in memory."""
    config = transformers.MixtralConfig(
        **SIZES, **WORDS, num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1
    )
    stir(transformers.MixtralForCausalLM(config)).save_pretrained(tmp_path)
    source, student = load_source(str(tmp_path)), transformers.MixtralForCausalLM(config)
    assert isinstance(source.weights, nn.Module)
    assert init_from(student, source.weights).share == 1
    loaded = transformers.MixtralForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in student.state_dict().items())
