"""A batch's inputs: handed to a module, and changed into what a teacher was trained on."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from headstart.distill.projection import Projection
from headstart.errors import TeacherError

_WRAPPERS = (nn.DataParallel, DistributedDataParallel, AveragedModel)  # take any arguments, for the module inside

Normalisation = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation of each channel


def renormalise(given: Normalisation, wanted: Normalisation) -> Callable[[Any], Any] | None:
    """What turns images normalised in one way into the same images normalised in another.

    Args:
        given: Mean and standard deviation, per channel, that the student's images were normalised with.
        wanted: Those that the teacher was trained with.

    Returns:
        A function for `Teacher(prepare=...)`, which changes every floating tensor `[batch, channels, height, width]`
        (of videos `[batch, frames, channels, ...]` or `[batch, channels, frames, ...]`) of a batch's inputs, and
        refuses one without any; None where both are the same.

    Raises:
        TeacherError: They are for different numbers of channels, or a standard deviation is not positive.

    Example:
        >>> prepare = renormalise(([0.5], [0.5]), ([0.0], [1.0]))
        >>> prepare(torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1)).flatten()
        tensor([0.0000, 0.5000, 1.0000])
    """
    (mean, std), (own_mean, own_std) = [(torch.tensor(mean), torch.tensor(std)) for mean, std in (given, wanted)]
    if len({len(values) for values in (mean, std, own_mean, own_std)}) > 1:
        raise TeacherError(
            f"the teacher takes images of {len(own_mean)} channels, the student's have {len(mean)}; give one mean and "
            "one std for each channel"
        )
    if not (bool((std > 0).all()) and bool((own_std > 0).all())):
        raise TeacherError(f"std must be positive for each channel, not {list(given[1])} and {list(wanted[1])}")
    scale, shift = std / own_std, (mean - own_mean) / own_std
    if torch.allclose(scale, torch.ones(())) and torch.allclose(shift, torch.zeros(()), atol=1e-6):
        return None

    def change(images: Tensor) -> Tensor:
        dim = channels_of(images, len(mean))
        shape = [-1 if place == dim else 1 for place in range(images.dim())]
        return torch.addcmul(shift.to(images).view(shape), images, scale.to(images).view(shape))

    return lambda inputs: each_image(change, inputs)


def each_image(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """A batch's inputs with a function applied to images `[batch, channels, height, width]` and videos, with one more.

    Raises:
        TeacherError: There are none: what was to be done to them would be left out without a word.

    Example:
        >>> each_image(lambda images: images + 1, (torch.zeros(1, 1, 1, 1), torch.zeros(3)))
        (tensor([[[[1.]]]]), tensor([0., 0., 0.]))
    """
    if not any(is_image(tensor) for tensor in tensors(inputs)):
        kinds = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in tensors(inputs)) or "no tensor"
        raise TeacherError(
            f"the teacher's images are to be changed (normalised, resized, or their channels flipped), and the batch "
            f"has none: floats [batch, channels, height, width], or with frames. It has {kinds}; make the images that "
            "the teacher takes in Teacher(prepare=...)"
        )
    return each_tensor(lambda tensor: function(tensor) if is_image(tensor) else tensor, inputs)


def is_image(tensor: Tensor) -> bool:
    """Whether a tensor of a batch holds images or videos, by its form."""
    return tensor.dim() in (4, 5) and tensor.is_floating_point()


def channels_of(images: Tensor, channels: int) -> int:
    """The dimension of the channels of images, or of videos, which have frames before or after them.

    Raises:
        TeacherError: None has so many, or either may be it.

    Example:
        >>> channels_of(torch.zeros(2, 8, 3, 16, 16), 3)
        2
    """
    found = [dim for dim in range(1, images.dim() - 2) if images.shape[dim] == channels]
    if len(found) != 1:
        raise TeacherError(
            f"images of shape {tuple(images.shape)}: {'more than one dimension' if found else 'none'} may be that of "
            f"the {channels} channels, which comes second, or in videos before or after the frames; give a teacher of "
            "such images what it takes by Teacher(prepare=...)"
        )
    return found[0]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images `[..., channels, height, width]` at another height and width; bilinear, with antialiasing.

    Example:
        >>> resize(torch.ones(2, 3, 32, 32), (16, 16)).shape
        torch.Size([2, 3, 16, 16])
    """
    if images.shape[-2:] == size:
        return images
    # On the CPU torch does not resize halves with antialiasing.
    wide = images.to(torch.promote_types(images.dtype, torch.float32)).flatten(0, -4)  # the frames of videos, too
    resized = F.interpolate(wide, size, mode="bilinear", antialias=True)
    return resized.to(images.dtype).view(*images.shape[:-2], *size)


def call(module: Callable[..., Any], inputs: Any) -> Any:
    """Call a module with a batch's inputs: a tuple of positional or a mapping of named arguments, else one argument.

    A tuple with names (a batch, a packed sequence) is one argument where the module does not take as many.
    """
    if isinstance(inputs, Mapping):
        return module(**inputs)
    if not isinstance(inputs, tuple) or (hasattr(inputs, "_fields") and not _takes(module, inputs)):
        return module(inputs)
    return module(*inputs)


def wrapped_in(module: Any) -> Any:
    """The module inside `torch.compile`, data parallelism or an average of weights, whose forward names its arguments.

    Example:
        >>> type(wrapped_in(nn.DataParallel(nn.Linear(2, 3)))).__name__
        'Linear'
    """
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif isinstance(module, _WRAPPERS):
            module = module.module
        else:
            return module


def _takes(module: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether a forward can be called with so many arguments; so where it does not tell."""
    forward = getattr(wrapped_in(module), "forward", module)
    try:
        inspect.signature(forward).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # TorchScript and other callables without a signature
        return True
    return True


def logits_in(outputs: Any) -> Tensor | None:
    """The logits in what a module returned: it itself, or its `logits`; None where there are none."""
    found = _logits_in(outputs)
    return found if isinstance(found, Tensor) else None


def projection_in(outputs: Any) -> Projection | None:
    """What stands for the logits in what a module returned; None where nothing does."""
    found = _logits_in(outputs)
    return found if isinstance(found, Projection) else None


def _logits_in(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return outputs.get("logits")
    return outputs if isinstance(outputs, Tensor | Projection) else getattr(outputs, "logits", None)


def each_tensor(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """A batch's inputs with a function applied to their tensors, in containers of the same kinds; other things stay.

    Containers are mappings, tuples (named ones, too), lists and dataclasses, in any nest.

    Example:
        >>> each_tensor(lambda tensor: tensor + 1, {"crops": [torch.zeros(1), torch.ones(2)], "text": None})
        {'crops': [tensor([1.]), tensor([2., 2.])], 'text': None}
    """
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return _filled(inputs, {key: each_tensor(function, value) for key, value in inputs.items()})
    if isinstance(inputs, (tuple, list)):
        values = [each_tensor(function, value) for value in inputs]
        if isinstance(inputs, list):
            return values
        return type(inputs)(*values) if hasattr(inputs, "_fields") else tuple(values)
    if dataclasses.is_dataclass(inputs) and not isinstance(inputs, type):
        changed = copy.copy(inputs)
        for field in dataclasses.fields(inputs):
            object.__setattr__(changed, field.name, each_tensor(function, getattr(inputs, field.name)))
        return changed
    return inputs


def tensors(inputs: Any) -> Iterator[Tensor]:
    """The tensors of a batch's inputs, in their order, in whatever container `each_tensor` looks into."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, Mapping):
        for value in inputs.values():
            yield from tensors(value)
    elif isinstance(inputs, (tuple, list)):
        for value in inputs:
            yield from tensors(value)
    elif dataclasses.is_dataclass(inputs) and not isinstance(inputs, type):
        for field in dataclasses.fields(inputs):
            yield from tensors(getattr(inputs, field.name))


def first_tensor(inputs: Any) -> Tensor | None:
    """The first tensor of a batch's inputs."""
    return next(tensors(inputs), None)


def device_of(inputs: Any) -> torch.device:
    """Where a batch's inputs lie; the CPU where no tensor tells."""
    tensor = first_tensor(inputs)
    return tensor.device if tensor is not None else torch.device("cpu")


def versions(inputs: Any) -> list[int]:
    """How often each tensor was written to; those of `torch.inference_mode` do not count it."""
    return [-1 if tensor.is_inference() else tensor._version for tensor in tensors(inputs)]


def _filled(like: Mapping[Any, Any], values: dict[Any, Any]) -> Mapping[Any, Any]:
    """These values in a mapping of the same class, as a forward may ask for them as attributes."""
    if type(like) is dict or not isinstance(like, MutableMapping):
        return values
    filled = copy.copy(like)
    for key, value in values.items():  # outputs of transformers have no `update`
        filled[key] = value
    return filled
