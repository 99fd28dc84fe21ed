"""Models of transformers, timm and torchvision as teachers, from local files: nothing is fetched."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from headstart.errors import TeacherError
from headstart.teachers import TeacherOptions, find_teacher, libraries, load_teacher
from headstart.teachers.libraries import load_timm
from headstart.teachers.modules import load_module

IDS = {"input_ids": torch.arange(12).view(2, 6)}
IMAGES = torch.rand(2, 3, 32, 32)


def save_bert(folder: Path, kind: str = "BertForMaskedLM", dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """A tiny BERT as `save_pretrained` leaves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **settings
    )
    model = getattr(transformers, kind)(config).to(dtype)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_folder_of_transformers(prefix: str, tmp_path: Path) -> None:
    model = save_bert(tmp_path / "bert")
    teacher = load_teacher(f"{prefix}{tmp_path / 'bert'}")
    assert teacher.name == (f"hf:{tmp_path / 'bert'}" if prefix else "bert")
    assert torch.equal(teacher.logits(IDS), model(**IDS).logits)
    assert not teacher.module.training and teacher.dtype is None


def test_one_in_parts(tmp_path: Path) -> None:
    model = save_bert(tmp_path)
    model.save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").exists()
    assert torch.equal(load_teacher(tmp_path / "parts").logits(IDS), model(**IDS).logits)


def test_one_in_half_precision_stays_in_it(tmp_path: Path) -> None:
    save_bert(tmp_path, dtype=torch.bfloat16)
    assert load_teacher(tmp_path).logits(IDS).dtype == torch.bfloat16
    wide = load_teacher(tmp_path, options=TeacherOptions(dtype="fp32"))
    assert wide.logits(IDS).dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "task", "classes"),
    [
        ("BertForMaskedLM", "mlm", None),
        ("BertForPreTraining", "mlm", None),
        ("BertLMHeadModel", "causal-lm", None),
        ("BertForSequenceClassification", "text-classification", None),
    ],
)
def test_the_class_that_the_configuration_names_is_loaded(kind: str, task: str, classes: Any, tmp_path: Path) -> None:
    save_bert(tmp_path, kind, is_decoder=kind == "BertLMHeadModel")
    loaded = load_module(find_teacher(tmp_path))
    assert (loaded.task, loaded.classes) == (task, classes)
    assert load_teacher(tmp_path).logits(IDS).shape[-1] == (2 if task == "text-classification" else 50)


def test_label_names_put_classes_into_the_students_order(tmp_path: Path) -> None:
    names = {0: "bad", 1: "so-so", 2: "good"}
    model = save_bert(tmp_path, "BertForSequenceClassification", id2label=names)
    assert load_module(find_teacher(tmp_path)).classes == ["bad", "so-so", "good"]
    logits = load_teacher(tmp_path, classes=["good", "bad"]).logits(IDS)
    assert torch.equal(logits, model(**IDS).logits[:, [2, 0]])


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("BertModel", {}, "is a BertModel, and its forward gives no logits"),
        ("BertModel", {"architectures": None}, "names no class, and none with a head"),
        (
            "BertModel",
            {"architectures": ["BertForMaskedLM"]},
            r"holds no weights for cls\.\S+ of BertForMaskedLM, which",
        ),
        ("BertForMaskedLM", {"architectures": ["MyForMaskedLM"], "model_type": "mine"}, "transformers cannot load it"),
        ("BertForMaskedLM", {"architectures": ["MyForCausalLM"]}, "is a MyForCausalLM.*Code from the Hub is never run"),
        ("BertForMaskedLM", {"hidden_size": 32}, "transformers cannot load it .*see that the folder holds all"),
    ],
)
def test_what_gives_no_logits_or_lacks_weights_is_refused(
    kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_bert(tmp_path, kind)
    rewrite(tmp_path, **changes)
    with pytest.raises(TeacherError, match=message):
        load_teacher(tmp_path)


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    save_bert(tmp_path)
    auto_map = {"AutoConfig": "mine.Config", "AutoModelForMaskedLM": "mine.Model"}
    rewrite(tmp_path, model_type="mine", auto_map=auto_map)
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()")
    with pytest.raises(TeacherError, match="transformers cannot load it"):
        load_teacher(f"hf:{tmp_path}")
    assert not (tmp_path / "trace").exists()


def test_what_the_hub_does_not_give_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(TeacherError, match=r"no-one/nothing@v1: transformers cannot load it .*check the name"):
        load_teacher("hf:no-one/nothing@v1")


def test_transformers_says_as_much_afterwards_as_before(tmp_path: Path) -> None:
    logging = pytest.importorskip("transformers.utils.logging")
    save_bert(tmp_path)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_teacher(tmp_path)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_an_image_model_of_transformers_knows_its_normalisation(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    silent = load_module(find_teacher(tmp_path))
    assert (silent.task, silent.size, silent.normalisation) == ("image-classification", (32, 32), None)
    processor = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    teacher = load_teacher(tmp_path, mean=[0.0] * 3, std=[1.0] * 3, classes=["dog", "cat"])
    assert teacher.memory_format == torch.channels_last
    expected = model((IMAGES - 0.5) / 0.25).logits[:, [1, 0]]
    torch.testing.assert_close(teacher.logits(IMAGES), expected)


# timm and torchvision, which the default path does not need.


def library(name: str) -> Any:
    """One of them; skips the test where it is missing, or made for another torch."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        pytest.skip(f"needs {name} ({error})")


def timm_folder(folder: Path) -> nn.Module:
    timm = library("timm")
    hub = library("timm.models._hub")
    model: nn.Module = timm.create_model("test_resnet", num_classes=7).eval()
    hub.save_for_hf(model, folder, safe_serialization=True)
    return model


@pytest.mark.parametrize("prefix", ["", "timm:local-dir:"])
def test_a_folder_of_timm(prefix: str, tmp_path: Path) -> None:
    model = timm_folder(tmp_path)
    loaded = load_module(find_teacher(f"{prefix}{tmp_path}"))
    assert (loaded.task, loaded.size) == ("image-classification", (160, 160))
    assert loaded.normalisation is not None and list(loaded.normalisation[0]) == [0.5] * 3
    teacher = load_teacher(f"{prefix}{tmp_path}", mean=[0.0] * 3, std=[1.0] * 3)
    torch.testing.assert_close(teacher.logits(IMAGES), model((IMAGES - 0.5) / 0.5), rtol=1e-4, atol=1e-5)


class Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_no_version_of_timm_runs_code_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that read a folder's pytorch_model.bin with `weights_only=False` neither."""
    file, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    torch.save({"weight": Trap(trace)}, file)
    old = SimpleNamespace(create_model=lambda name, pretrained: torch.load(file, weights_only=False))
    monkeypatch.setattr(libraries, "import_module", lambda name: old)
    with pytest.raises(TeacherError, match=r"timm cannot load it .*UnpicklingError"):
        load_timm(f"local-dir:{tmp_path}")
    assert not trace.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_what_timm_does_not_have_is_told(tmp_path: Path) -> None:
    library("timm")
    for name in ("resnet1811", "resnet18.no_such_tag"):
        with pytest.raises(TeacherError, match=f"timm:{name}: timm has no such model, or no weights for it"):
            load_teacher(f"timm:{name}")
    with pytest.raises(TeacherError, match=r"timm cannot load it \(FileNotFoundError"):
        load_teacher(f"timm:local-dir:{tmp_path}")


def test_a_model_of_torchvision_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = library("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    model = models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    place = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    place.parent.mkdir(parents=True)
    torch.save(model.state_dict(), place)
    for spec in ("torchvision:shufflenet_v2_x0_5", "torchvision:shufflenet_v2_x0_5/IMAGENET1K_V1"):
        teacher = load_teacher(spec, classes=["goldfish", "tench"])
        torch.testing.assert_close(teacher.logits(IMAGES), model(IMAGES)[:, [1, 0]], rtol=1e-4, atol=1e-4)
    loaded = load_module(find_teacher("torchvision:shufflenet_v2_x0_5"))
    assert loaded.size == (224, 224) and loaded.normalisation == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    place.write_bytes(place.read_bytes()[:1000])
    with pytest.raises(TeacherError, match="torchvision:shufflenet_v2_x0_5: torchvision cannot load it"):
        load_teacher("torchvision:shufflenet_v2_x0_5")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1811", "torchvision:resnet1811: torchvision has no such model"),
        ("resnet18/NEW", "torchvision:resnet18/NEW: torchvision has no such weights of resnet18"),
        ("googlenet", "normalises its inputs once more inside; take timm:googlenet"),
    ],
)
def test_what_torchvision_does_not_have_is_told(name: str, message: str) -> None:
    library("torchvision.models")
    with pytest.raises(TeacherError, match=message):
        load_teacher(f"torchvision:{name}")
