"""Labelled images in memory: found by name, decoded once, kept decoded in the cache."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from headstart.errors import DataError
from headstart.files import write_atomically
from headstart.tasks.images.data.decode import decode
from headstart.tasks.images.data.find import find
from headstart.tasks.places import cache_folder, files_key

__all__ = ["ImageSet", "check_labels", "load_images"]

logger = logging.getLogger(__name__)

# Part of every key: raise it when decoding changes, so that no older file is taken for the new one.
CACHE_VERSION = 1


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a labelled image set.

    Attributes:
        images: uint8 [N, C, H, W] in 0..255; C is 1 where all images are grey, else 3 (RGB).
        labels: int64 [N], indices into `classes`.
        classes: The names of the classes.
        origin: Where the data came from, for the report.

    Example:
        >>> images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
        >>> ImageSet(images, torch.tensor([0, 1]), ("shirt", "coat"), "made up").images.shape
        torch.Size([2, 1, 28, 28])
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    origin: str


def load_images(
    source: str, split: str = "train", *, image_column: str | None = None, label_column: str | None = None
) -> ImageSet:
    """Load one split of a data set into memory.

    `source` is looked up in this order: a folder of that path; `$HEADSTART_DATA/<source>`; `<cache>/data/<source>`,
    where the cache is `$HEADSTART_CACHE`, or `~/.cache/headstart`; the Hugging Face Hub, for names with an owner
    (`owner/name`) and for `fashion-mnist` and `cifar10`. A folder holds parquet files (`train*.parquet`,
    `test*.parquet`, `validation*.parquet`, as `datasets` writes them), or one image a file as
    `<split>/<class>/<image>`, at any depth below the class, as torchvision's `ImageFolder` reads a split; the training
    split's folders, sorted by name, are the classes of every split. `val` and `valid` are `validation`. Or it holds
    WebDataset shards (`*train*.tar`, ...), each image beside a `.cls` file with the number of its class.

    Decoded images are kept in the cache, keyed by the files' paths, sizes and times: the next start reads those.

    Args:
        source: The path or the name.
        split: `train`, `test`, `validation`, or any other name the data set uses. Where there is no `test`,
            `validation` is taken instead, and `origin` says so.
        image_column: The column of images; by default the only one of type Image.
        label_column: The column of labels; by default the only one of type ClassLabel.

    Raises:
        DataError: The data is nowhere to be found; has no such split or column; or holds no images, images that cannot
            be decoded or differ in size, or labels that are not indices of classes.

    Example:
        >>> load_images("no-such-data-set")
        Traceback (most recent call last):
        ...
        headstart.errors.DataError: no data set 'no-such-data-set' ...
    """
    found = find(source, split)
    kept = _cache_file(found.files, (found.origin, found.split, image_column, label_column))
    if (loaded := _read(kept)) is None:
        rows = found.read(image_column, label_column)
        images = decode(rows.images, found.origin)
        labels = check_labels(rows.labels, rows.classes, found.origin)
        loaded = images, labels, rows.classes
        _keep(kept, *loaded)
    return ImageSet(*loaded, found.origin)


def check_labels(values: Sequence[int], classes: Sequence[str], origin: str) -> Tensor:
    """Make the tensor of labels, int64 [N].

    Args:
        values: One a row.
        classes: The names that they are indices of.
        origin: Where they come from, for messages.

    Raises:
        DataError: One is no index into `classes`.
    """
    labels = torch.tensor(values, dtype=torch.int64)
    wrong = ((labels < 0) | (labels >= len(classes))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{origin}: row {row} has the label {values[row]}, but there are {len(classes)} classes, "
            f"0 to {len(classes) - 1} ({len(wrong)} such rows); leave out rows without a label"
        )
    return labels


def _cache_file(files: Sequence[Path], choices: tuple[str | None, ...]) -> Path:
    """Name the file that holds the decoded images of these files as they are now."""
    return cache_folder() / "decoded" / f"{files_key(files, CACHE_VERSION, choices)}.safetensors"


def _read(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]] | None:
    """Read decoded images back; `None` where there are none, or the file is broken and must be made again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
            return images, labels, tuple(json.loads(file.metadata()["classes"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: cannot be used (%s); decoding the images again", path, error)
        return None


def _keep(path: Path, images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> None:
    """Keep decoded images; a cache that cannot be written (full, read-only) costs time at the next start, no more."""
    content = save({"images": images, "labels": labels}, metadata={"classes": json.dumps(classes)})
    try:
        write_atomically(path, content)
    except OSError as error:
        logger.warning("%s: cannot be written (%s); the images will be decoded again next time", path, error)
