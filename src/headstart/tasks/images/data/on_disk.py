"""Rows whose images stay on the disk until they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.errors import DataError
from headstart.extras import recipes_extra
from headstart.tasks.hub import one_line
from headstart.tasks.images.data.decode import Encoded
from headstart.tasks.images.data.rows import Rows, encoded_image, find_column, read_tree
from headstart.tasks.places import cache_folder

if TYPE_CHECKING:
    from datasets import Dataset

_LABEL = "cls"  # what WebDataset calls it


class Files(Sequence[Encoded]):
    """Paths as plain bytes: a million Python objects would be copied by each worker that looks at them.

    Args:
        paths: Of the files.

    Example:
        >>> Files([Path("a.png"), Path("cat/b.png")])[1].name
        'b.png'
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = np.array([os.fsencode(path) for path in paths])

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: Any) -> Any:
        return Path(os.fsdecode(self._paths[row]))


class Column(Sequence[Encoded]):
    """A column of images in a data set that `datasets` maps into memory.

    Args:
        dataset: The data set.
        name: The column's.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        import datasets

        self._name = name
        self._dataset = dataset.select_columns([name]).cast_column(name, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: Any) -> Any:
        return encoded_image(self._dataset[row][self._name])


def open_tree(files: Sequence[Path], classes: tuple[str, ...], tree: Path) -> Rows:
    """Open a folder of one image a file, whose folders are the classes.

    Raises:
        DataError: A folder is none of `classes`.
    """
    rows = read_tree(files, classes, tree)
    return Rows(Files(files), rows.labels, rows.classes)


def open_parquet(files: Sequence[Path], origin: str) -> Rows:
    """Open parquet files, of which `datasets` keeps a copy in the cache.

    Raises:
        DataError: They cannot be read, or the columns do not fit.
    """
    return open_hub(_load("parquet", files, origin), origin)


def open_hub(dataset: Dataset, origin: str) -> Rows:
    """Open a data set that `datasets` has loaded.

    Raises:
        DataError: The columns do not fit.
    """
    image = find_column(dataset.features, "Image", None, "image_column", origin)
    label = find_column(dataset.features, "ClassLabel", None, "label_column", origin)
    return Rows(Column(dataset, image), _labels(dataset, label), tuple(dataset.features[label].names))


def open_shards(files: Sequence[Path], training: Sequence[Path], origin: str, *columns: str | None) -> Rows:
    """Open WebDataset shards, of which `datasets` keeps a copy in the cache. Classes are numbers there.

    Args:
        files: The split's.
        training: The training split's, whose largest label tells how many classes there are.
        origin: Where they come from, for messages.
        columns: None may be asked for.

    Raises:
        DataError: They are no such shards, or a column was asked for.
    """
    if any(columns):
        raise DataError(f"{origin} is a WebDataset, whose label is .{_LABEL}; leave image_column and label_column out")
    dataset = _load("webdataset", files, origin)
    image = find_column(dataset.features, "Image", None, "image_column", origin)
    largest = max(_labels(_load("webdataset", training, origin), _LABEL, origin), default=-1)
    classes = tuple(str(number) for number in range(largest + 1))
    return Rows(Column(dataset, image), _labels(dataset, _LABEL, origin), classes)


def _load(builder: str, files: Sequence[Path], origin: str) -> Dataset:
    with recipes_extra():
        import datasets

    names, cache = [str(path) for path in files], str(cache_folder() / "datasets")
    try:
        return datasets.load_dataset(builder, data_files=names, split="train", cache_dir=cache)
    except Exception as error:  # a broken file leads to errors of several libraries
        raise DataError(f"{origin}: cannot be read as {builder} ({one_line(error)}); fetch it again") from None


def _labels(dataset: Dataset, column: str, origin: str = "") -> list[int]:
    if column not in dataset.features:
        raise DataError(f"{origin}: has no .{column} file beside each image; write the number of its class into one")
    labels = dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    return [-1 if label is None else label for label in labels]
