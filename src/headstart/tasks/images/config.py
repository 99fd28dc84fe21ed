"""What a recipe says about an image classification."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headstart.config import SEEDS, Config


class ImageModel(Config):
    """The student."""

    name: str = "resnet20"
    """`resnet8`, `resnet14`, `resnet20`, ... (He et al. 2015, for small images); `timm:NAME`; `torchvision:NAME`."""
    width: int = Field(16, ge=1)
    """Channels of a small ResNet's first stage; 16 in the paper. Other models do not use it."""


class Augment(Config):
    """Changes to each training image, drawn anew each epoch. They follow from seed, epoch and sample alone."""

    crop: int = Field(0, ge=0)
    """Pad with this many black pixels on each side, then crop back to the image's size at a random place."""
    flip: bool = False
    """Mirror half of the images left to right."""
    cutout: int = Field(0, ge=0)
    """Blank a random square of this side, in pixels (DeVries and Taylor, arXiv 1708.04552)."""


class ImageData(Config):
    """Which images to train and judge on."""

    name: str
    """A folder, or a data set's name: looked up in `$HEADSTART_DATA`, the cache, then the Hugging Face Hub."""
    augment: Augment = Augment()
    """Augmentation of the training images."""
    seed: int | None = Field(None, ge=0, lt=SEEDS)
    """Of the order and the augmentation, so that runs of several seeds can share cached targets; null: `train.seed`."""
    evaluate: Literal["test", "validation"] = "test"
    """Judge on the test split, or on `holdout` images taken out of the training split (to choose settings)."""
    holdout: int = Field(0, ge=0)
    """How many training images to set aside: the same ones for every seed. They are trained on by nobody."""
