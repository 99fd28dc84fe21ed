"""A batch's inputs: handed to a module, and changed into what a teacher was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.errors import TeacherError

Normalisation = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation of each channel


def renormalise(given: Normalisation, wanted: Normalisation) -> Callable[[Any], Any] | None:
    """What turns images normalised in one way into the same images normalised in another.

    Args:
        given: Mean and standard deviation, per channel, that the student's images were normalised with.
        wanted: Those that the teacher was trained with.

    Returns:
        A function for `Teacher(prepare=...)`, which changes every floating tensor `[batch, channels, height, width]` of
        a batch's inputs; None where both are the same.

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
    scale, shift = scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)

    def change(images: Tensor) -> Tensor:
        if images.dim() != 4 or not images.is_floating_point():
            return images
        return torch.addcmul(shift.to(images), images, scale.to(images))

    return lambda inputs: each_tensor(change, inputs)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images `[batch, channels, height, width]` at another height and width; bilinear, with antialiasing.

    Example:
        >>> resize(torch.ones(2, 3, 32, 32), (16, 16)).shape
        torch.Size([2, 3, 16, 16])
    """
    if images.shape[-2:] == size:
        return images
    # On the CPU torch does not resize halves with antialiasing.
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    return F.interpolate(wide, size, mode="bilinear", antialias=True).to(images.dtype)


def call(module: Callable[..., Any], inputs: Any) -> Any:
    """Call a module with a batch's inputs: a tensor, a tuple of positional or a mapping of named arguments."""
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def logits_in(outputs: Any) -> Tensor | None:
    """The logits in what a module returned: it itself, or its `logits`; None where there are none."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits")
    elif not isinstance(outputs, Tensor):
        outputs = getattr(outputs, "logits", None)
    return outputs if isinstance(outputs, Tensor) else None


def each_tensor(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """A batch's inputs (a tensor, a tuple, a mapping) with a function applied to its tensors; other things stay."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {key: each_tensor(function, value) for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(each_tensor(function, value) for value in inputs)
    return inputs


def first_tensor(inputs: Any) -> Tensor | None:
    """The first tensor of a batch's inputs."""
    if isinstance(inputs, Tensor):
        return inputs
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else ()
    return next((value for value in values if isinstance(value, Tensor)), None)
