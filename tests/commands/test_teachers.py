"""What is listed of teachers and of the doctor's findings."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import nn

import headstart.commands.teachers as commands
from headstart.commands.teachers import checks_table, list_teachers, teachers_table
from headstart.distill.flops import count_flops
from headstart.errors import TeacherError
from headstart.tasks.images.resnet import ResNet
from headstart.teachers.doctor import Check
from tests.tiny import tiny_recipe, write_images, write_run


def printed(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    from headstart.train.run import train

    train(tiny_recipe(write_images(tmp_path / "data"), train__steps=1), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_tried_on_images_like_its_own(run: Path) -> None:
    (found,) = list_teachers([str(run)])
    module = ResNet(8, classes=3, channels=1, width=4)
    assert (found["kind"], found["task"], found["model"]) == ("run", "image-classification", "resnet8")
    assert found["classes"] == 3 and found["metric"] == "accuracy" and 0 <= found["quality"] <= 1
    assert found["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())
    assert found["bytes"] == 4 * found["parameters"] + buffers
    assert found["inputs"] == "2048 x 1 x 8 x 8" and found["forward_ms"] > 0
    assert found["forward_flops"] == count_flops(lambda: module.eval()(torch.zeros(2048, 1, 8, 8)))


def test_patterns_are_listed_one_by_one(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_run(tmp_path / name)
    assert [item["spec"] for item in list_teachers([str(tmp_path / "*")])] == [str(tmp_path / n) for n in ("a", "b")]


def test_names_are_not_read_as_markup(tmp_path: Path) -> None:
    name = f"{write_run(tmp_path / 'x[/y]')}"
    assert "x[/y]" in printed(teachers_table(list_teachers([name])))
    assert "x[/y]" in printed(checks_table([Check(name="finite", status="pass", finding="a[/b]", teacher=name)]))


def test_what_a_file_of_weights_does_not_tell_is_left_open(tmp_path: Path) -> None:
    save_file(nn.Linear(4, 3).state_dict(), tmp_path / "w.safetensors")
    (found,) = list_teachers([str(tmp_path / "w.safetensors")])
    assert (found["kind"], found["parameters"], found["bytes"]) == ("weights", 15, 60)
    assert found["model"] is found["task"] is found["quality"] is found["forward_ms"] is None
    assert "?" in printed(teachers_table([found]))


def test_an_operator_without_a_formula_leaves_the_flops_open(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> int:
        raise TeacherError("cannot count")

    monkeypatch.setattr("headstart.commands.teachers.count_flops", unknown)
    (found,) = list_teachers([str(run)])
    assert found["forward_flops"] is None and found["forward_ms"] > 0


def test_a_language_model_is_tried_on_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    (found,) = list_teachers([f"hf:{tmp_path}"])
    assert (found["task"], found["model"], found["classes"]) == ("mlm", "BertForMaskedLM", 50)
    assert found["inputs"] == "16 x 64" and found["forward_flops"] > 0


def write_llama(folder: Path, **sizes: int) -> Any:
    """A configuration, and a file of weights that says nothing of them."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(architectures=["LlamaForCausalLM"], dtype="bfloat16", **sizes)
    config.save_pretrained(folder)
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    return config


def test_a_model_larger_than_memory_is_listed_without_reading_it(tmp_path: Path) -> None:
    """Of 26 GB as it lies on the disk, and twice that where it were built in float32."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_llama(tmp_path, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40)
    (found,) = list_teachers([str(tmp_path)])
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1e9
    assert found["reason"] is None and (found["model"], found["classes"]) == ("LlamaForCausalLM", 32000)
    assert found["parameters"] == 13_015_864_320  # of Llama 2 13B, as its authors count
    assert 2 * found["parameters"] <= found["bytes"] < 2.001 * found["parameters"]
    assert (found["inputs"], found["forward_ms"]) == ("8 x 128", None)
    read = found["parameters"] - 32000 * 5120  # the table of tokens is only looked up in
    assert found["forward_flops"] == pytest.approx(2 * 1024 * read, rel=0.01)
    assert "not timed, 8 x 128" in printed(teachers_table([found]))


def test_a_forward_that_takes_long_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_llama(tmp_path, vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    (small,) = list_teachers([str(tmp_path)])
    assert "holds no weights for" in small["reason"]  # as it is read
    for limit in ("_MOST_FLOPS", "_MOST_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(commands, limit, 1)
            (found,) = list_teachers([str(tmp_path)])
        assert found["reason"] is None and found["classes"] == 50 and found["forward_ms"] is None


def test_the_table_shows_what_is_known(run: Path) -> None:
    text = printed(teachers_table(list_teachers([str(run)])))
    for word in ("resnet8", "accuracy", "ms for 2048 x 1 x 8 x 8"):
        assert word in text


def test_findings_are_shown_with_what_to_do() -> None:
    checks = [
        Check(name="classes", status="fail", finding="logits [8, 5]", advice="give [classes]", teacher="old"),
        Check(name="memory", status="pass", finding="enough"),
    ]
    text = printed(checks_table(checks))
    for word in ("classes", "old", "fail", "logits [8, 5]", "give [classes]", "memory", "pass", "enough"):
        assert word in text


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration", "BertModel"])
def test_every_folder_has_a_row(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, kind)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "d_kv": 8}
    config = model_class.config_class(**sizes, intermediate_size=32, d_ff=16, decoder_start_token_id=0)
    model = model_class(config)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    found, broken = list_teachers([str(tmp_path / "model"), str(tmp_path / "broken.pt")])
    if kind == "BertModel":
        assert "is a BertModel, and its forward gives no logits" in found["reason"]
    else:
        assert (found["model"], found["reason"]) == (kind, None)
        assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert "broken.pt: is refused" in broken["reason"] and broken["parameters"] is None
    assert "broken.pt" in printed(teachers_table([found, broken]))
