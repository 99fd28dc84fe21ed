"""BlurPool: models that look at a blurred image before they leave out pixels (Zhang 2019, arXiv 1904.11486)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.errors import RecipeError

Model = TypeVar("Model", bound=nn.Module)

# Of the input: the first layers see colours, where a blur costs detail and the most time.
_LEAST_CHANNELS = 16


def with_blurpool(model: Model) -> Model:
    """Blur before the strided convolutions of a model, and after its strided max-pooling, in place.

    Convolutions keep their stride, so that the blur is nearly all that is added; those of fewer than 16 channels stay
    as they are. The names of the weights do not change.

    Raises:
        RecipeError: There is nothing to blur.

    Example:
        >>> model = with_blurpool(nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1)))
        >>> model(torch.zeros(1, 16, 16, 16)).shape, list(model.state_dict())
        (torch.Size([1, 32, 4, 4]), ['0.weight', '0.bias'])
    """
    swapped = {
        name: blurred for name, module in model.named_modules() if (blurred := _blurred(module)) is not None and name
    }
    if not swapped:
        raise RecipeError("model.blurpool: the model has no strided convolution or pooling to blur; leave it out")
    for name, module in swapped.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module)
    return model


class BlurConv2d(nn.Conv2d):
    """A convolution of a blurred image."""

    kernel: Tensor

    @classmethod
    def of(cls, module: nn.Conv2d) -> BlurConv2d:
        """The convolution with the weights of another; these are shared and not copied."""
        made = cls(
            module.in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]  # torch's annotations forget that these are pairs
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            module.groups,
            module.bias is not None,
            module.padding_mode,
            device="meta",
        )
        made.weight, made.bias = module.weight, module.bias
        made.register_buffer("kernel", _kernel(module.in_channels), persistent=False)
        return made

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_channels, height, width]` as the convolution does."""
        return super().forward(_blur(input, self.kernel, 1))


class BlurMaxPool2d(nn.Module):
    """Max-pooling at every pixel, then a blur that leaves out as many as the pooling did.

    Args:
        module: The pooling.
    """

    def __init__(self, module: nn.MaxPool2d) -> None:
        super().__init__()
        self.size, self.padding = module.kernel_size, module.padding
        self.dilation, self.stride = module.dilation, module.stride
        self.register_buffer("kernel", _kernel(1), persistent=False)

    kernel: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Map `[batch, channels, height, width]` to a smaller height and width."""
        pooled = F.max_pool2d(images, self.size, 1, self.padding, self.dilation)
        return _blur(pooled, self.kernel.expand(pooled.shape[1], -1, -1, -1), self.stride)


def _blurred(module: nn.Module) -> nn.Module | None:
    """What to put into a module's place; None: it stays."""
    if isinstance(module, nn.Conv2d) and max(module.stride) > 1 and module.in_channels >= _LEAST_CHANNELS:
        return BlurConv2d.of(module)
    if isinstance(module, nn.MaxPool2d) and _largest(module.stride) > 1:
        return BlurMaxPool2d(module)
    return None


def _largest(stride: int | tuple[int, ...]) -> int:
    return stride if isinstance(stride, int) else max(stride)


def _kernel(channels: int) -> Tensor:
    """The 3x3 binomial filter for each channel, `[channels, 1, 3, 3]`."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4.0
    return torch.outer(line, line).repeat(channels, 1, 1, 1)


def _blur(images: Tensor, kernel: Tensor, stride: int | tuple[int, ...]) -> Tensor:
    """Each channel on its own; zeros beyond the border, as convolutions have them."""
    return F.conv2d(images, kernel.to(images.dtype), stride=stride, padding=1, groups=len(kernel))
