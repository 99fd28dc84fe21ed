"""Vision models of transformers, timm and torchvision cut and grown."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from headstart.init import init_from
from headstart.init.side import Side
from headstart.init.view import views
from tests.init.models import assert_same_outputs, assert_same_weights, stirred, without_channels

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LARGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # one made for another torch raises what it stumbles over
        pytest.skip(f"{name} does not load: {error}")


def vit(scale: int = 1, depth: int = 2) -> nn.Module:
    config = transformers.ViTConfig(  # type: ignore[call-arg]  # keys of all configurations
        hidden_size=16 * scale,
        num_hidden_layers=depth,
        num_attention_heads=2 * scale,
        intermediate_size=24 * scale,
        image_size=16,
        patch_size=4,
        num_labels=3,
        attn_implementation="eager",
    )
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model.eval()


def timm_vit(scale: int = 1, depth: int = 2, **more: Any) -> nn.Module:
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16 * scale, "num_heads": 2 * scale, "num_classes": 3}
    model = library("timm").create_model("vit_tiny_patch16_224", depth=depth, **(sizes | more))
    assert isinstance(model, nn.Module)
    return model.eval()


def scaled_vit(scale: int = 1, depth: int = 2) -> nn.Module:
    return timm_vit(scale, depth, init_values=0.1, qk_norm=True, reg_tokens=1, class_token=False, global_pool="avg")


def convnext(scale: int = 1, depth: int = 2) -> nn.Module:
    sizes = {"depths": (1, depth, 1, 1), "dims": tuple(scale * size for size in (8, 12, 16, 20)), "num_classes": 3}
    model = library("timm").create_model("convnext_tiny", **sizes)
    assert isinstance(model, nn.Module)
    return model.eval()


def convnext_v2(scale: int = 1, depth: int = 2) -> nn.Module:
    sizes = {"depths": (1, depth, 1, 1), "dims": tuple(scale * size for size in (8, 12, 16, 20)), "num_classes": 3}
    model = library("timm").create_model("convnextv2_atto", **sizes)
    assert isinstance(model, nn.Module)
    return model.eval()


def timm_resnet(block: str) -> Callable[..., nn.Module]:
    def build(scale: int = 1, depth: int = 2) -> nn.Module:
        resnet = library("timm.models.resnet")
        channels = tuple(24 * scale * 2**stage for stage in range(4))  # the stem has 64, whatever the width
        model = resnet.ResNet(getattr(resnet, block), (1, depth, 1, 1), num_classes=3, stem_width=32, channels=channels)
        assert isinstance(model, nn.Module)
        return model.eval()

    return build


def torchvision_resnet(block: str) -> Callable[..., nn.Module]:
    def build(scale: int = 1, depth: int = 2) -> nn.Module:
        resnet = library("torchvision.models.resnet")
        model = resnet.ResNet(getattr(resnet, block), [1, depth, 1, 1], num_classes=3)
        for name, module in list(model.named_modules()):
            if "." in name or isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                narrow(model, name, module, 16 // scale)
        assert isinstance(model, nn.Module)
        return model.eval()

    return build


def narrow(model: nn.Module, name: str, module: nn.Module, by: int) -> None:
    """Put a layer with fewer channels into the place of one; torchvision builds no narrow networks."""
    parent, _, last = name.rpartition(".")
    new: nn.Module
    if isinstance(module, nn.Conv2d):
        inputs = module.in_channels if module.in_channels == 3 else module.in_channels // by
        shape: Any = {name: getattr(module, name) for name in ("kernel_size", "stride", "padding")}
        new = nn.Conv2d(inputs, module.out_channels // by, bias=False, **shape)
    elif isinstance(module, nn.BatchNorm2d):
        new = nn.BatchNorm2d(module.num_features // by)
    elif isinstance(module, nn.Linear):
        new = nn.Linear(module.in_features // by, module.out_features)
    else:
        return
    setattr(model.get_submodule(parent), last, new)


MODELS: dict[str, tuple[Callable[..., nn.Module], torch.Tensor]] = {
    "ViT": (vit, IMAGES),
    "timm-ViT": (timm_vit, IMAGES),
    "timm-ViT-scaled": (scaled_vit, IMAGES),
    "ConvNeXt": (convnext, LARGE),
    "ConvNeXt-V2": (convnext_v2, LARGE),
    "timm-basic": (timm_resnet("BasicBlock"), LARGE),
    "timm-bottleneck": (timm_resnet("Bottleneck"), LARGE),
    "torchvision-basic": (torchvision_resnet("BasicBlock"), LARGE),
    "torchvision-bottleneck": (torchvision_resnet("Bottleneck"), LARGE),
}
EACH = pytest.mark.parametrize("name", MODELS)


@EACH
def test_a_source_of_the_same_shape_gives_the_same_student(name: str) -> None:
    build, _ = MODELS[name]
    student, source = build(), stirred(build())
    assert init_from(student, source, "copy").share == 1
    assert_same_weights(student, source)


@EACH
def test_twice_the_width_keeps_the_outputs(name: str) -> None:
    build, images = MODELS[name]
    student, source = build(2), stirred(build())
    inherited = init_from(student, source, "grow")
    assert inherited.share == 1 and not [note for note in inherited.notes if "BatchNorm" not in note]
    assert_same_outputs(student, source, images)


@EACH
def test_narrower_and_shallower_takes_all_from_the_source(name: str) -> None:
    build, images = MODELS[name]
    student, source = build(1, 1), stirred(build(2, 3))
    inherited = init_from(student, source, "select", batches=[images])
    assert inherited.share == 1 and {row.what for row in inherited.tensors} <= {"selected", "copied", "matched"}
    assert torch.isfinite(student(images) if name != "ViT" else student(images).logits).all()


def test_a_file_of_vit_has_older_names(tmp_path: Path) -> None:
    """As `load_file` gives them; the loader of transformers renames them."""
    source, student = stirred(vit(2, 3)), vit()
    source.save_pretrained(tmp_path)  # type: ignore[operator]
    tensors = load_file(tmp_path / "model.safetensors")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in tensors
    again = vit()
    assert init_from(student, tensors, source_config=source.config).share == 1
    init_from(again, source)
    assert_same_weights(student, again)


def test_heads_of_timm_are_cut_whole() -> None:
    student, source = timm_vit(1, 2), stirred(timm_vit(2, 2))
    indices = init_from(student, source).indices
    assert indices["heads"] == (0, 2)
    rows = [part * 32 + head * 8 + channel for part in range(3) for head in (0, 2) for channel in range(8)]
    weight = source.get_parameter("blocks.0.attn.qkv.bias")[rows]
    assert torch.equal(student.get_parameter("blocks.0.attn.qkv.bias"), weight)


def test_channels_of_timms_heads_that_are_zero_can_be_cut() -> None:
    """Twice the heads of half the size; queries, keys and values lie in one tensor."""
    source, student = stirred(timm_vit()), timm_vit(num_heads=4)
    indices = init_from(student, source).indices
    found = views(Side(student, None, "student"), Side(source, None, "source"))
    assert found is not None
    without_channels(found[1], indices["rotated_channels"], indices["head_channels"])
    init_from(student, source)
    assert_same_outputs(student, source, IMAGES)
