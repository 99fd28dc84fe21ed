"""From encoded images to one uint8 tensor."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from headstart.errors import DataError
from headstart.extras import recipes_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

# An image as it is stored: its bytes, a file, or nothing (a null in a table).
Encoded = bytes | Path | None

_LONG = 5_000  # images; below, decoding takes about a second and needs no progress bar


def decode(encoded: Sequence[Encoded], origin: str) -> Tensor:
    """Decode images of one size, one after the other (threads were measured to slow small images down).

    Args:
        encoded: The images, in any format that Pillow reads, 8 bits a channel.
        origin: Where they come from, for messages.

    Returns:
        uint8 [N, C, H, W]; C is 1 where all images are grey, else 3 (grey ones made RGB, transparency dropped).

    Raises:
        DataError: There are none, one cannot be decoded, or they differ in size.
    """
    if not encoded:
        raise DataError(f"{origin}: the split is empty: it has no rows; fetch it again, or take another one")
    console = Console(stderr=True)
    shown = track(encoded, "decoding images", console=console, disable=len(encoded) < _LONG, transient=True)
    arrays = [
        _decode_one(image, str(image) if isinstance(image, Path) else f"{origin}: image {row}")
        for row, image in enumerate(shown)
    ]
    return _stack(arrays, origin)


def open_image(encoded: Encoded, where: str) -> Image:
    """Decode one image, turned as its EXIF data says, in the mode L or RGB.

    Args:
        encoded: As it is stored.
        where: Names it in messages.

    Raises:
        DataError: It is missing, cannot be decoded, or has more than 8 bits a channel.
    """
    with recipes_extra():
        from PIL import Image as Files
        from PIL import ImageOps

    if encoded is None:
        raise DataError(f"{where} is missing (null); leave such rows out")
    try:
        with Files.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise DataError(
                    f"{where} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits first"
                )
            image.load()
            mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
            return image if image.mode == mode else image.convert(mode)  # which copies, even where nothing changes
    except DataError:
        raise
    except Exception as error:  # what Pillow raises on broken files depends on the format
        raise DataError(f"{where} cannot be decoded ({error}); replace it or leave it out") from None


def _decode_one(encoded: Encoded, where: str) -> NDArray[np.uint8]:
    """Decode one image to [C, H, W], C = 1 or 3."""
    array = np.asarray(open_image(encoded, where))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _stack(arrays: Sequence[NDArray[np.uint8]], origin: str) -> Tensor:
    """Put the images into one tensor; in a mixed set grey ones are repeated over the three channels."""
    height, width = arrays[0].shape[1:]
    for row, array in enumerate(arrays):
        if array.shape[1:] != (height, width):
            raise DataError(
                f"{origin}: image 0 is {height} x {width} pixels and image {row} is {array.shape[1]} x "
                f"{array.shape[2]} (height x width); images that are kept in memory have one size: set "
                "data.size to cut all to that many pixels as they are read, or resize them first"
            )
    images = torch.empty(len(arrays), max(array.shape[0] for array in arrays), height, width, dtype=torch.uint8)
    view = images.numpy()
    for row, array in enumerate(arrays):
        view[row] = array
    return images
