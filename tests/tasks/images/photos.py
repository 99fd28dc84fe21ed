"""Photographs of a kind: JPEGs of many sizes, as image folders, parquet files and WebDataset shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchdistill_box import import_torchvision

CLASSES = ("blue", "green", "red")
Photo = tuple[bytes, int]  # a JPEG and its label


def make_photos(count: int, seed: int) -> list[Photo]:
    """JPEGs whose colour tells the class, ordered by class."""
    generator = np.random.default_rng(seed)
    photos = []
    for label in sorted(number % len(CLASSES) for number in range(count)):
        height, width = generator.integers(20, 40, 2)
        pixels = generator.integers(0, 150, (height, width, 3))
        pixels[..., 2 - label] += 90
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        photos.append((buffer.getvalue(), label))
    return photos


def write_tree(folder: Path, split: str, photos: Sequence[Photo]) -> None:
    for number, (content, label) in enumerate(photos):
        path = folder / split / CLASSES[label] / f"{number:04}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_parquet(folder: Path, split: str, photos: Sequence[Photo]) -> None:
    import datasets  # slow, and the processes of some tests do without

    folder.mkdir(exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    values = {
        "image": [{"bytes": content, "path": None} for content, _ in photos],
        "label": [label for _, label in photos],
    }
    datasets.Dataset.from_dict(values, features=features).to_parquet(str(folder / f"{split}.parquet"))


def write_shards(folder: Path, split: str, photos: Sequence[Photo], *, shards: int = 2) -> None:
    folder.mkdir(exist_ok=True)
    share = -(-len(photos) // shards)
    for shard in range(shards):
        with tarfile.open(folder / f"photos-{split}-{shard:04}.tar", "w") as archive:
            for number in range(shard * share, min((shard + 1) * share, len(photos))):
                content, label = photos[number]
                _add(archive, f"{number:06}.jpg", content)
                _add(archive, f"{number:06}.cls", str(label).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


FORMS: dict[str, Callable[[Path, str, Sequence[Photo]], None]] = {
    "tree": write_tree,
    "parquet": write_parquet,
    "shards": write_shards,
}


def write_photos(folder: Path, form: str = "tree", *, train: int = 48, test: int = 14) -> Path:
    """Write a data set in one of the forms; the photographs and their order are the same in each."""
    for number, (split, count) in enumerate((("train", train), ("test", test))):
        FORMS[form](folder, split, make_photos(count, seed=number))
    return folder


class RandomPart:
    """Stands in for torchvision's RandomResizedCrop where it is not installed; draws from torch's generator too."""

    def __init__(self, size: int, *, flip: bool) -> None:
        self.size, self.flip = size, flip

    def __call__(self, image: Image.Image) -> Tensor:
        width, height = image.size
        side = int(min(width, height) * (0.5 + 0.5 * float(torch.rand(()))))
        left, top = (int(float(torch.rand(())) * (length - side + 1)) for length in (width, height))
        part = image.resize((self.size, self.size), box=(left, top, left + side, top + side))
        pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous()
        return pixels.flip(-1) if self.flip and float(torch.rand(())) < 0.5 else pixels


class Whole:
    """Stands in for what torchvision does to held-out images."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image.resize((self.size, self.size)))).permute(2, 0, 1).contiguous()


def torchvision_works() -> bool:
    try:
        import_torchvision()
    except ImportError:
        return False
    return True


def cutting() -> AbstractContextManager[object]:
    """Inside, images can be streamed: with torchvision, or with what stands in for it."""
    stack = ExitStack()
    if not torchvision_works():
        for name, stand_in in (("training_transform", RandomPart), ("evaluation_transform", Whole)):
            stack.enter_context(mock.patch(f"headstart.tasks.images.data.streamed.{name}", stand_in))
    return stack
