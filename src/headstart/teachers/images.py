"""What an image processor of transformers does to images, as the normalisation of values from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.errors import TeacherError

_LARGEST = 255.0  # of a pixel as it is stored


def image_facts(name: str, where: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Size, channels and normalisation of the images that a model was trained on, and whether these are BGR.

    Raises:
        TeacherError: Its processor does something to images that cannot be followed.
    """
    from transformers import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name, **where)
    except OSError:
        processor = {}
    channels = getattr(config, "num_channels", 3)
    return {
        "size": _pair(getattr(config, "image_size", None))
        or _pair(processor.get("crop_size") or processor.get("size")),
        "channels": channels,
        "normalisation": normalisation_of(processor, channels),
        "flipped": bool(processor.get("do_flip_channel_order")),
    }


def normalisation_of(processor: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation that do to values from 0 to 1 what a processor does to pixels from 0 to 255.

    It multiplies by `rescale_factor` f (1 where it does not rescale) and then normalises: (255 f x - mean) / std,
    which is (x - mean / 255 f) / (std / 255 f).

    Args:
        processor: Its configuration.
        channels: Of the images.

    Returns:
        None where the configuration says nothing of it.

    Example:
        >>> normalisation_of({"do_rescale": False, "image_mean": [127.5], "image_std": [255.0]}, 1)
        ((0.5,), (1.0,))
    """
    if "image_mean" not in processor and "do_normalize" not in processor and "do_rescale" not in processor:
        return None
    factor = float(processor.get("rescale_factor", 1 / _LARGEST)) if processor.get("do_rescale", True) else 1.0
    mean, std = (0.0,) * channels, (1.0,) * channels
    if processor.get("do_normalize", "image_mean" in processor):
        if "image_mean" not in processor or "image_std" not in processor:
            return None
        mean, std = (_each(processor[key], channels) for key in ("image_mean", "image_std"))
    if processor.get("rescale_offset") or processor.get("offset"):
        mean = tuple(value + 1.0 for value in mean)
    if processor.get("include_top"):
        raise TeacherError(
            "its image processor normalises twice (include_top), which is not followed; say `mean` and `std` of it as "
            "a whole, or give a module with what it needs in Teacher(prepare=...)"
        )
    scale = _LARGEST * factor
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def _each(values: Any, channels: int) -> tuple[float, ...]:
    return (float(values),) * channels if isinstance(values, int | float) else tuple(map(float, values))


def _pair(size: Any) -> tuple[int, int] | None:
    """Height and width, in any of the ways that configurations write them."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping):
        side = size.get("shortest_edge")
        size = (size.get("height", side), size.get("width", side))
    return (int(size[0]), int(size[1])) if size and len(size) == 2 and all(size) else None
