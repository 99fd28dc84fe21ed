"""The rows of a data set: images as stored, labels, class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import DataError
from headstart.extras import recipes_extra
from headstart.tasks.images.data.decode import Encoded
from headstart.tasks.images.data.trees import named

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features


@dataclass(frozen=True)
class Rows:
    """Images as stored, their labels, and the names of the classes."""

    images: Sequence[Encoded]
    labels: Sequence[int]
    classes: tuple[str, ...]


def read_tree(files: Sequence[Path], classes: tuple[str, ...], tree: Path, *columns: str | None) -> Rows:
    """Read a folder of one image a file, whose folders are the classes.

    Args:
        files: Below it, at any depth.
        classes: Names of the folders, in the order of their labels.
        tree: The folder.
        columns: None may be asked for.

    Raises:
        DataError: A folder is none of `classes`, or a column was asked for.
    """
    if any(columns):
        raise DataError(f"{tree} is a folder of images and has no columns; leave image_column and label_column out")
    index = {name: number for number, name in enumerate(classes)}
    depth = len(tree.parts)
    names = [path.parts[depth] for path in files]
    if unknown := sorted(set(names) - set(index)):
        raise DataError(
            f"{tree / unknown[0]}: the training split has no class of that name; it has {named(classes)}. The "
            "folders in a split are the classes: sort its images into folders of those names, or leave the split out "
            "and judge by a part of the training images (data.evaluate: validation, data.holdout)"
        )
    return Rows(files, [index[name] for name in names], classes)


def read_parquet(files: Sequence[Path], origin: str, image_column: str | None, label_column: str | None) -> Rows:
    """Read parquet files as `datasets` writes them, with the columns' types in the schema.

    Raises:
        DataError: They are no such files, or the columns do not fit.
    """
    with recipes_extra():
        import datasets
        from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table([str(path) for path in files])
    except (ArrowException, OSError) as error:
        raise DataError(f"{origin}: cannot be read as parquet ({error}); fetch it again") from None
    features = datasets.Features.from_arrow_schema(table.schema)
    return _from_table(table, features, origin, image_column, label_column)


def read_hub(dataset: Dataset, origin: str, image_column: str | None, label_column: str | None) -> Rows:
    """Read a data set that `datasets` has loaded.

    Raises:
        DataError: The columns do not fit.
    """
    return _from_table(dataset.with_format("arrow")[:], dataset.features, origin, image_column, label_column)


def _from_table(
    table: pyarrow.Table, features: Features, origin: str, image_column: str | None, label_column: str | None
) -> Rows:
    """Take the images, still encoded, and the labels out of a table."""
    image_column = find_column(features, "Image", image_column, "image_column", origin)
    label_column = find_column(features, "ClassLabel", label_column, "label_column", origin)
    images = [encoded_image(image) for image in table[image_column].to_pylist()]
    labels = [-1 if label is None else label for label in table[label_column].to_pylist()]
    return Rows(images, labels, tuple(features[label_column].names))


def encoded_image(image: Mapping[str, Any] | None) -> Encoded:
    """Take the bytes of an image in a table, or the file that it names instead."""
    if image is None:
        return None
    content: bytes | None = image["bytes"]
    return Path(image["path"]) if content is None and image["path"] else content


def find_column(features: Features, kind: str, wanted: str | None, option: str, origin: str) -> str:
    """Return the column `wanted`, or the only one of type `kind`.

    Raises:
        DataError: There is no such column, or more than one.
    """
    types = {name: type(feature).__name__ for name, feature in features.items()}
    fitting = [name for name, found in types.items() if found == kind]
    if wanted in fitting or (wanted is None and len(fitting) == 1):
        return wanted or fitting[0]
    columns = ", ".join(f"{name} ({found})" for name, found in types.items())
    if wanted is not None:
        raise DataError(f"{origin}: {option}={wanted!r} is no column of type {kind}; the columns are {columns}")
    advice = (
        f"name one with {option}" if fitting else "write the table with `datasets` and cast the column to that type"
    )
    raise DataError(f"{origin}: {len(fitting)} columns of type {kind} among {columns}; {advice}")
