"""What an init is given to take weights from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from headstart.errors import TeacherError
from headstart.init import init_from
from headstart.tasks.images import ImageModel, build_model
from headstart.teachers.lazy import LazyTensors
from headstart.teachers.rows import rows_of
from headstart.teachers.source import load_source
from tests.tiny import write_run


def test_a_run_folder_is_read_lazily_and_knows_its_classes(tmp_path: Path) -> None:
    source = load_source(write_run(tmp_path / "run"))
    assert isinstance(source.weights, LazyTensors) and source.classes == ["0", "1", "2"] and source.tokenizer is None
    model = build_model(ImageModel(name="resnet8", width=4), classes=3, channels=1)
    assert source.parameters == sum(parameter.numel() for parameter in model.parameters())
    ready = load_source(tmp_path / "run", runs=True)
    assert isinstance(ready.weights, nn.Module) and ready.parameters == source.parameters


def test_a_file_that_does_not_say_what_builds_it_cannot_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "old.pt")
    assert not isinstance(load_source(tmp_path / "old.pt").weights, nn.Module)
    with pytest.raises(TeacherError, match="does not say which model it is for"):
        load_source(tmp_path / "old.pt", runs=True)


def test_a_checkpoint_of_transformers_in_parts_is_cut_without_being_built(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4, "vocab_size": 40}
    config = transformers.LlamaConfig(**shape, num_hidden_layers=2, num_key_value_heads=2, tie_word_embeddings=False)
    old = transformers.LlamaForCausalLM(config)
    old.save_pretrained(tmp_path / "old", max_shard_size="10KB")
    assert (tmp_path / "old" / "model.safetensors.index.json").is_file()
    source = load_source(str(tmp_path / "old"))
    assert isinstance(source.weights, LazyTensors) and source.config.num_key_value_heads == 2
    assert source.parameters == sum(parameter.numel() for parameter in old.parameters())
    small = {**config.to_dict(), "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    student = transformers.LlamaForCausalLM(transformers.LlamaConfig(**small))
    again = transformers.LlamaForCausalLM(transformers.LlamaConfig(**small))
    inherited = init_from(student, source.weights, source_config=source.config)
    assert init_from(again, old).indices == inherited.indices and inherited.share == 1.0
    assert all(torch.equal(again.state_dict()[name], value) for name, value in student.state_dict().items())


def test_a_vocabulary_is_matched_by_all_names_of_its_tensors(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tests.tasks.text.words import word_tokenizer

    tokenizer = word_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    size = len(tokenizer) + 3
    config = transformers.BertConfig(
        hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=size
    )
    model = transformers.BertForMaskedLM(config)
    model.save_pretrained(tmp_path)
    rows = rows_of(model, load_source(str(tmp_path)), tokenizer=tokenizer)
    assert rows == {}  # the same tokens and as many rows: as they are, those that pad them, too
    config.vocab_size = size + 2
    wider = transformers.BertForMaskedLM(config)
    rows = rows_of(wider, load_source(str(tmp_path)), tokenizer=tokenizer)
    expected = [*range(len(tokenizer)), -1, -1, -1, -1, -1]
    assert {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"} <= rows.keys()
    assert all(row.tolist() == expected for row in rows.values())
