"""Folders of one image a file, one folder a class, as torchvision's `ImageFolder` reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headstart.errors import DataError
from headstart.tasks.places import known_split, split_name

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_NAMED = 5  # folders in a message
_ENDINGS = f"{', '.join(SUFFIXES)} (capitals or not)"


@dataclass(frozen=True)
class Tree:
    """One split: a folder whose folders are the classes.

    Hidden files and folders, such as `.ipynb_checkpoints` and `._image.png`, do not count, other than in torchvision.
    """

    path: Path

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted: a class's place is its label."""
        return tuple(path.name for path in folders_in(self.path))

    def images(self, *, all_classes: bool = False) -> list[Path]:
        """The images of all classes, at any depth below their folders, in ImageFolder's order.

        Args:
            all_classes: Refuse classes without an image, as ImageFolder does: a training cannot learn them.

        Raises:
            DataError: There are none; says which folders and endings were looked at.
        """
        by_class = {name: images_below(self.path / name) for name in self.classes}
        empty = [name for name, images in by_class.items() if not images]
        if len(empty) == len(by_class):
            raise DataError(
                f"{self.path}: the split is empty: no file in {named(empty)}, or at any depth below, ends in "
                f"{_ENDINGS}; give images of those kinds, each in a folder of its class"
            )
        if empty and all_classes:
            raise DataError(
                f"{self.path}: no image of {len(empty)} of the {len(by_class)} classes: no file in {named(empty)}, or "
                f"at any depth below, ends in {_ENDINGS}; add some, or remove what is no class"
            )
        return [path for images in by_class.values() for path in images]


def trees_in(folder: Path, wanted: str) -> Mapping[str, Tree]:
    """The splits in a folder: its folders that hold folders, by the name of their split.

    Args:
        folder: The data set.
        wanted: The split that is looked for. Folders of images that are no split at all are refused for want of it.

    Returns:
        Nothing where there are no such folders.

    Raises:
        DataError: There are images, but not by split and class; or two folders are the same split.
    """
    inner = folders_in(folder)
    trees = [path for path in inner if folders_in(path)]
    splits = _by_split(folder, trees)
    if wanted not in splits and not any(map(known_split, splits)):
        if alone := [path for path in inner if known_split(path.name) and images_below(path, first=True)]:
            raise DataError(
                f"{alone[0]}: its images are in no folders, whose names would be their classes; sort them as "
                f"{alone[0].name}/<class>/<image>"
            )
        if any(images_below(path, first=True) for path in inner):
            raise DataError(_without_splits(folder, inner))
    return splits


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name, hidden ones left out."""
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries if entry.is_dir()) if _visible(name)]


def images_below(folder: Path, *, first: bool = False) -> list[Path]:
    """The images in a folder and in those below it, links to folders followed.

    Args:
        folder: Where to look.
        first: Look no further than to the first folder that has some.
    """
    found: list[tuple[str, list[str]]] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = filter(_visible, folders)
        if names := [name for name in files if _visible(name) and name.lower().endswith(SUFFIXES)]:
            found.append((place, sorted(names)))
            if first:
                break
    return [Path(place, name) for place, names in sorted(found) for name in names]


def _by_split(folder: Path, trees: list[Path]) -> Mapping[str, Tree]:
    """By the name of their split; a folder that has no other name comes before one that has it in its name."""
    found: dict[str, Path] = {}
    for path in sorted(trees, key=lambda path: not path.name.isalpha()):
        split = split_name(path.name)
        other = found.setdefault(split, path)
        if other is not path and known_split(split) and other.name.isalpha() == path.name.isalpha():
            raise DataError(f"{folder}: both {other.name} and {path.name} are its {split} split; keep one of them")
    return {split: Tree(path) for split, path in found.items()}


def _without_splits(folder: Path, inner: list[Path]) -> str:
    names = [path.name for path in inner]
    return (
        f"{folder} holds images in folders ({named(names)}), but not by split. If these are the classes, move them "
        f"into {folder / 'train'}, and images to judge by into {folder / 'test'} (or val) in the same way; without the "
        "latter, judge by a part of the training images: data.evaluate: validation, data.holdout: 1000"
    )


def named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are, for messages."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _visible(name: str) -> bool:
    return not name.startswith(".")
