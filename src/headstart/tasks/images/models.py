"""Image models by name."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

from torch import nn

from headstart.errors import HeadstartError, RecipeError
from headstart.tasks.images.blurpool import with_blurpool
from headstart.tasks.images.config import ImageModel
from headstart.tasks.images.resnet import ResNet


def build_model(config: ImageModel, *, classes: int, channels: int) -> nn.Module:
    """Build a model with fresh weights, which follow from torch's default generator.

    Args:
        config: Its name and width.
        classes: Number of classes.
        channels: Channels of the images.

    Raises:
        RecipeError: The name is unknown, or the model does not take such images or has nothing to blur.
        HeadstartError: The library that it comes from is not installed.

    Example:
        >>> type(build_model(ImageModel(name="resnet8"), classes=10, channels=1)).__name__
        'ResNet'
    """
    model = _build(config, classes, channels)
    return with_blurpool(model) if config.blurpool else model


def _build(config: ImageModel, classes: int, channels: int) -> nn.Module:
    library, _, name = config.name.rpartition(":")
    if library == "timm":
        return _timm(name, classes, channels)
    if library == "torchvision":
        return _torchvision(name, classes, channels)
    match = re.fullmatch(r"resnet(\d+)", config.name)
    if not match:
        raise RecipeError(
            f"model.name={config.name!r} is unknown; "
            "give resnet8, resnet14, resnet20, ..., timm:NAME or torchvision:NAME"
        )
    try:
        return ResNet(int(match[1]), classes=classes, channels=channels, width=config.width)
    except ValueError as error:
        raise RecipeError(f"model.name={config.name!r}: {error}") from None


def _timm(name: str, classes: int, channels: int) -> nn.Module:
    timm = vision_library("timm")
    if not timm.is_model(name):
        raise RecipeError(f"model.name='timm:{name}': timm has no such model; timm.list_models() lists them")
    model: nn.Module = timm.create_model(name, num_classes=classes, in_chans=channels)
    return model


def _torchvision(name: str, classes: int, channels: int) -> nn.Module:
    models = vision_library("torchvision.models")
    if channels != 3:
        raise RecipeError(
            f"model.name='torchvision:{name}' takes 3 channels, the images have {channels}; take a timm model"
        )
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    except ValueError:
        raise RecipeError(f"model.name='torchvision:{name}': torchvision has no such model") from None
    return model


def vision_library(name: str) -> ModuleType:
    """Import a library that only some image tasks need.

    Raises:
        HeadstartError: It is not installed, or made for another torch.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # one made for another torch raises what it stumbles over, a RuntimeError say
        raise HeadstartError(f"{name} cannot be imported ({error}); pip install 'headstart[vision]'") from None
