"""What a recipe says about an image classification."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from headstart.config import SEEDS, Config


class ImageModel(Config):
    """The student."""

    name: str = "resnet20"
    """`resnet8`, `resnet14`, `resnet20`, ... (He et al. 2015, for small images); `timm:NAME`; `torchvision:NAME`."""
    width: int = Field(16, ge=1)
    """Channels of a small ResNet's first stage; 16 in the paper. Other models do not use it."""
    blurpool: bool = False
    """Blur before each strided convolution, and after max-pooling, against aliasing (Zhang, arXiv 1904.11486)."""


class Augment(Config):
    """Changes to each training image, drawn anew each epoch. They follow from seed, epoch and sample alone."""

    crop: int = Field(0, ge=0)
    """Pad with this many black pixels on each side, then crop back to the image's size at a random place."""
    flip: bool = False
    """Mirror half of the images left to right."""
    cutout: int = Field(0, ge=0)
    """Blank a random square of this side, in pixels (DeVries and Taylor, arXiv 1708.04552)."""
    mixup: float = Field(0.0, ge=0)
    """Mix each image, and its label, with the one before it in the micro-batch; their shares are drawn once a step from
    Beta(mixup, mixup) (Zhang et al., arXiv 1710.09412). Teachers see the mixture. 0: no mixing."""


class Progressive(Config):
    """Images that grow during training: small ones cost less, and teach nearly as much early on."""

    scale: float = Field(0.5, gt=0, lt=1)
    """Side of the first images, as a fraction of `data.size`."""
    start: float = Field(0.0, ge=0, le=1)
    """Fraction of training at which they begin to grow."""
    stop: float = Field(0.8, ge=0, le=1)
    """Fraction of training from which on they have their full size."""
    increment: PositiveInt = 4
    """Sides are multiples of this many pixels. A race times the steps of each side: the more, the fewer there are."""

    @model_validator(mode="after")
    def _in_order(self) -> Progressive:
        if self.start > self.stop:
            raise ValueError(f"start={self.start} is after stop={self.stop}")
        return self


class ImageData(Config):
    """Which images to train and judge on."""

    name: str
    """A folder, or a data set's name: looked up in `$HEADSTART_DATA`, the cache, then the Hugging Face Hub."""
    size: PositiveInt | None = None
    """Train on random parts of the images, resized to a square of this side in pixels, which workers read and decode as
    they are needed; null: on the images as they are, all of one size and small enough to be kept in memory."""
    evaluate_size: PositiveInt | None = None
    """With `size`: judge on the centre of each image, a square of this side, after its shorter side was resized to 8/7
    of that; null: of `size`."""
    workers: int | None = Field(None, ge=0)
    """With `size`: processes that decode, for each training process; null: all cores, shared among the training
    processes of a machine."""
    progressive: Progressive | None = None
    """With `size`: begin with smaller images; null: do not."""
    augment: Augment = Augment()
    """Augmentation of the training images."""
    seed: int | None = Field(None, ge=0, lt=SEEDS)
    """Of the order and the augmentation, so that runs of several seeds can share cached targets; null: `train.seed`."""
    evaluate: Literal["test", "validation", "tuning"] = "test"
    """Judge on the test split, or on images taken out of the training split (to choose settings): those of `holdout`,
    or those of `tuning`, as `race.tune` does."""
    holdout: int = Field(0, ge=0)
    """How many training images to set aside: the same ones for every seed. They are trained on by nobody."""
    tuning: int = Field(0, ge=0)
    """How many further training images to set aside, for `race.tune` to choose settings by: others than those of
    `holdout`. They are trained on by nobody, and no race is judged by them."""

    @property
    def views(self) -> int | None:
        """How many images augmentation makes of one: 1 without any, 2 with a flip alone; None where it makes more."""
        drawn = self.augment
        if self.size is not None or drawn.crop or drawn.cutout or drawn.mixup:
            return None
        return 2 if drawn.flip else 1

    @model_validator(mode="after")
    def _of_streamed_images(self) -> ImageData:
        for key in ("evaluate_size", "workers", "progressive"):
            if self.size is None and getattr(self, key) is not None:
                raise ValueError(f"{key} needs size: the side of the images to train on, in pixels")
        return self
