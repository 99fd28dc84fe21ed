"""`headstart init`: what it writes is read by the library that it is for, and computes what `init_from` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

import transformers

from headstart.cli import app
from headstart.init import init_from
from tests.tasks.text.words import word_tokenizer
from tests.tiny import write_run

CONFIGS: dict[str, Any] = {
    "llama": transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100, tie_word_embeddings=False,
    ),
    "bert": transformers.BertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, vocab_size=100
    ),
    "modernbert": transformers.ModernBertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, vocab_size=100,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    ),
}  # fmt: skip
CLASSES: dict[str, Any] = {
    "llama": transformers.LlamaForCausalLM,
    "bert": transformers.BertForMaskedLM,
    "modernbert": transformers.ModernBertForMaskedLM,
}


def old_model(folder: Path, kind: str = "llama", **save: Any) -> Any:
    model = CLASSES[kind](CONFIGS[kind])
    model.save_pretrained(folder, **save)
    word_tokenizer().save_pretrained(folder)
    return model


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(
    "like", ["num_hidden_layers=2", "num_hidden_layers=2,intermediate_size=32", "num_hidden_layers=8"]
)
def test_what_is_written_loads_with_nothing_missing(kind: str, like: str, tmp_path: Path) -> None:
    old_model(tmp_path / "old", kind)
    done = run(tmp_path / "old", "--like", like, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert "100.0 % of the parameters inherited: " in done.stdout
    model, info = CLASSES[kind].from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert tokenizer.get_vocab() == word_tokenizer().get_vocab()
    for part in like.split(","):
        key, value = part.split("=")
        assert getattr(model.config, key) == int(value)


@pytest.mark.parametrize("key", ["n_layers", "num_hidden_layers"])
def test_a_type_that_calls_its_number_of_layers_otherwise(key: str, tmp_path: Path) -> None:
    shape = transformers.DistilBertConfig(dim=32, hidden_dim=64, n_layers=4, n_heads=4, vocab_size=100)
    old = transformers.DistilBertForMaskedLM(shape)
    old.save_pretrained(tmp_path / "old")
    result = run(tmp_path / "old", "--like", f"{key}=2", "--out", tmp_path / "new", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["indices"]["transformer.layer"] == [0, 3]


def test_a_vit_whose_file_has_the_names_of_earlier_versions(tmp_path: Path) -> None:
    kind: Any = transformers.ViTForImageClassification
    shape: Any = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 4}
    old = kind(transformers.ViTConfig(**shape, image_size=16, patch_size=4))
    old.save_pretrained(tmp_path / "old")
    done = run(tmp_path / "old", "--like", "num_hidden_layers=2", "--out", tmp_path / "new")
    assert done.exit_code == 0 and "100.0 % of the parameters inherited" in done.stdout, done.output
    new, info = kind.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    theirs = old.vit.layers[3].attention.q_proj.weight
    assert torch.equal(new.vit.layers[1].attention.q_proj.weight, theirs)


def test_a_checkpoint_in_parts_gives_what_the_module_gives(tmp_path: Path) -> None:
    old = old_model(tmp_path / "old", max_shard_size="20KB")
    assert (tmp_path / "old" / "model.safetensors.index.json").is_file()
    small = transformers.LlamaConfig.from_dict({**CONFIGS["llama"].to_dict(), "hidden_size": 16, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1})  # fmt: skip
    small.save_pretrained(tmp_path / "shape")
    done = run(tmp_path / "old", "--like", tmp_path / "shape" / "config.json", "--out", tmp_path / "new", "--json")
    assert done.exit_code == 0, done.output
    student = transformers.LlamaForCausalLM(small)
    inherited = init_from(student, old)
    assert json.loads(done.stdout)["share"] == inherited.share == 1.0
    written = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "new")
    for name, value in student.state_dict().items():
        if "embed_tokens" not in name and "lm_head" not in name:
            assert torch.equal(written.state_dict()[name], value)


def test_columns_without_a_token_stay_fresh_and_are_finite(tmp_path: Path) -> None:
    old = old_model(tmp_path / "old")
    done = run(tmp_path / "old", "--like", "vocab_size=104", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    new = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "new")
    tokens = max(word_tokenizer().get_vocab().values()) + 1
    rows = new.model.embed_tokens.weight
    assert torch.equal(rows[:tokens], old.model.embed_tokens.weight[:tokens]) and torch.isfinite(rows).all()
    assert rows[tokens:].std() > 0


def test_what_stays_fresh_is_what_the_seed_gives_a_model_without_a_source(tmp_path: Path) -> None:
    old_model(tmp_path / "old")
    done = run(tmp_path / "old", "--like", "vocab_size=104,hidden_size=16,num_attention_heads=2,num_key_value_heads=1,"
               "head_dim=8", "--seed", 3, "--out", tmp_path / "new")  # fmt: skip
    assert done.exit_code == 0, done.output
    new = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "new")
    torch.manual_seed(3)
    fresh = transformers.AutoModelForCausalLM.from_config(new.config)
    tokens = max(word_tokenizer().get_vocab().values()) + 1
    assert torch.equal(new.model.embed_tokens.weight[tokens:], fresh.model.embed_tokens.weight[tokens:])


def test_classes_of_a_classifier_are_matched_by_their_names(tmp_path: Path) -> None:
    kind = {"architectures": ["BertForSequenceClassification"]}
    shape = {**CONFIGS["bert"].to_dict(), **kind, "id2label": {0: "cat", 1: "dog", 2: "owl"}}
    old = transformers.BertForSequenceClassification(transformers.BertConfig.from_dict(shape))
    old.save_pretrained(tmp_path / "old")
    config = transformers.BertConfig.from_dict({**shape, "id2label": {0: "owl", 1: "cow", 2: "cat"}})
    config.save_pretrained(tmp_path / "shape")
    done = run(tmp_path / "old", "--like", tmp_path / "shape", "--seed", 3, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    new = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "new")
    assert torch.equal(new.classifier.weight[[0, 2]], old.classifier.weight[[2, 0]])
    assert not torch.equal(new.classifier.weight[1], old.classifier.weight[1])


def test_units_are_scored_on_a_text(tmp_path: Path) -> None:
    old_model(tmp_path / "old")
    (tmp_path / "text.txt").write_text("a b c d e f g h " * 300)
    given = [tmp_path / "old", "--like", "intermediate_size=32", "--out", tmp_path / "new", "--scores", "activation"]
    refused = run(*given)
    assert refused.exit_code == 2 and "give text of its kind with --text FILE" in refused.stderr
    done = run(*given, "--text", tmp_path / "text.txt", "--compensate", "--batches", 2)
    assert done.exit_code == 0 and "compensated" in done.stdout, done.output


@pytest.mark.parametrize(
    ("like", "code", "message"),
    [
        ("num_hiden_layers=2", 2, "LlamaConfig has no setting 'num_hiden_layers'; did you mean 'num_hidden_layers'?"),
        ("nowhere/config.json", 2, "--like=nowhere/config.json: no such file or folder; give a config.json"),
        ("vocab_size=5", 2, "vocab_size=5 is less than the"),
        ("num_attention_heads=3,hidden_size=32", 2, "--like"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(like: str, code: int, message: str, tmp_path: Path) -> None:
    old_model(tmp_path / "old")
    refused = run(tmp_path / "old", "--like", like, "--out", tmp_path / "new")
    assert refused.exit_code == code and message in refused.stderr, refused.output
    assert not (tmp_path / "new").exists() and "Traceback" not in refused.stderr


def test_what_else_is_refused(tmp_path: Path) -> None:
    old_model(tmp_path / "old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    full = run(tmp_path / "old", "--like", "num_hidden_layers=2", "--out", tmp_path / "full")
    assert full.exit_code == 2 and "holds something already" in full.stderr
    ours = run(write_run(tmp_path / "run"), "--like", "num_hidden_layers=2", "--out", tmp_path / "new")
    assert ours.exit_code == 4 and "is no model of transformers" in ours.stderr
    grown = run(tmp_path / "old", "--like", "num_hidden_layers=2", "--out", tmp_path / "new", "--how", "grow")
    assert grown.exit_code == 4
    other = tmp_path / "other"
    CONFIGS["bert"].save_pretrained(other)
    strange = run(tmp_path / "old", "--like", other, "--out", tmp_path / "new")
    assert strange.exit_code in (2, 4) and not (tmp_path / "new").exists()


def strange_qwen(folder: Path, *kinds: str) -> None:
    """A Qwen whose layers look at a window where no derived pattern has one."""
    shape = transformers.Qwen2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=len(kinds), num_attention_heads=4, vocab_size=100,
        num_key_value_heads=2, use_sliding_window=True, sliding_window=4,
        layer_types=[f"{kind}_attention" for kind in kinds],
    )  # fmt: skip
    transformers.Qwen2ForCausalLM(shape).save_pretrained(folder)


@pytest.mark.parametrize(
    ("depth", "scores", "layers", "kinds"),
    [
        (2, "spaced", [0, 3], ["sliding", "full"]),
        (2, "first", [0, 1], ["sliding", "full"]),
        (3, "spaced", [0, 2, 3], ["sliding", "sliding", "full"]),
        (8, "spaced", [0, 1, 2, 3] * 2, ["sliding", "full", "sliding", "full"] * 2),
    ],
)
def test_a_pattern_of_layers_of_ones_own_goes_with_the_layers(
    depth: int, scores: str, layers: list[int], kinds: list[str], tmp_path: Path
) -> None:
    strange_qwen(tmp_path / "old", "sliding", "full", "sliding", "full")
    like = ["--like", f"num_hidden_layers={depth}", "--scores", scores]
    done = run(tmp_path / "old", *like, "--out", tmp_path / "new", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["indices"]["layers"] == layers
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["layer_types"] == [f"{kind}_attention" for kind in kinds]


def test_a_derived_pattern_of_layers_is_derived_anew(tmp_path: Path) -> None:
    old_model(tmp_path / "old", "modernbert")
    done = run(tmp_path / "old", "--like", "num_hidden_layers=7", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    kinds = json.loads((tmp_path / "new" / "config.json").read_text())["layer_types"]
    assert kinds == transformers.ModernBertConfig(num_hidden_layers=7).layer_types


def test_settings_of_generation_are_copied_where_tokens_are_the_same(tmp_path: Path) -> None:
    old_model(tmp_path / "old")
    settings = transformers.GenerationConfig(eos_token_id=[2, 7], do_sample=True, temperature=0.6, top_p=0.9)
    settings.save_pretrained(tmp_path / "old")
    done = run(tmp_path / "old", "--like", "num_hidden_layers=2", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    new = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "new").generation_config
    assert (new.eos_token_id, new.do_sample, new.temperature, new.top_p) == ([2, 7], True, 0.6, 0.9)
    CONFIGS["llama"].save_pretrained(tmp_path / "shape")
    word_tokenizer().save_pretrained(tmp_path / "shape")
    for like, out in ((tmp_path / "shape", "other"), ("eos_token_id=5", "end")):
        done = run(tmp_path / "old", "--like", like, "--out", tmp_path / out)
        assert done.exit_code == 0, done.output
        assert "generation_config.json: not copied, as its tokens are not the new model's" in done.stdout
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "end").eos_token_id == 5


def test_a_model_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    hub = pytest.importorskip("timm.models._hub")
    hub.save_for_hf(timm.create_model("test_resnet", num_classes=7), tmp_path / "old", safe_serialization=True)
    done = run(tmp_path / "old", "--like", "timm:test_resnet", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    new = timm.create_model(f"local-dir:{tmp_path / 'new'}", pretrained=True)
    assert new.num_classes == 7
