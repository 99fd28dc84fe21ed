"""GLUE's data: found locally or on the Hub, and checked before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import DataError
from headstart.extras import recipes_extra
from headstart.tasks.glue.protocol import GlueTask
from headstart.tasks.places import locate, name_files

if TYPE_CHECKING:
    import pyarrow

_HUB_NAME = "nyu-mll/glue"
_HIGHEST_SCORE = 5.0  # of STS-B


@dataclass(frozen=True, eq=False)
class TextSet:
    """One split of a task.

    Attributes:
        texts: One list of texts for each of the task's columns, `samples` long.
        labels: `[samples]`; int64 classes, or float32 scores.
        origin: Where it came from, for messages.
    """

    texts: tuple[list[str], ...]
    labels: NDArray[Any]
    origin: str


@dataclass(frozen=True)
class GlueData:
    """Where a task's data is: parquet files by split, or what `datasets` loaded from the Hub."""

    task: GlueTask
    splits: Mapping[str, Any]

    def read(self, split: str) -> TextSet:
        """Read and check a split.

        Raises:
            DataError: A column or texts are missing, or the labels are none of the task's.
        """
        source = self.splits[split]
        if isinstance(source, list):
            table, origin = _read_parquet(source), name_files(source)
        else:
            table, origin = source.with_format("arrow")[:], f"Hugging Face Hub, {_HUB_NAME}, {self.task.name}, {split}"
        texts = tuple(_texts(table, column, origin) for column in self.task.columns)
        return TextSet(texts, _labels(table, self.task, origin), origin)


def find_data(task: GlueTask) -> GlueData:
    """Find a task's training and validation data: `$HEADSTART_DATA/glue/<task>`, the cache, then the Hub.

    A folder holds `train.parquet` and `validation.parquet` (MNLI: `validation_matched.parquet` and
    `validation_mismatched.parquet`), or each in parts (`train-00000-of-00002.parquet`, ...), with the columns of
    `nyu-mll/glue`.

    Raises:
        DataError: It is nowhere, or a split is missing.
    """
    wanted = ("train", *task.validation)
    files = " and ".join(f"{split}.parquet" for split in wanted)
    found = locate(
        f"glue/{task.name}",
        hub_name=_HUB_NAME,
        advice=f"put a folder glue/{task.name} with {files} into $HEADSTART_DATA, reach the Hub, or leave the task out",
        name=task.name,
    )
    splits = {split: _split_files(found, split) for split in wanted} if isinstance(found, Path) else found
    for split in wanted:
        if not splits.get(split):
            where = found if isinstance(found, Path) else f"Hugging Face Hub, {_HUB_NAME}, {task.name}"
            raise DataError(f"{where}: GLUE task {task.name} lacks its split {split!r}; add {split}.parquet")
    return GlueData(task, splits)


def _split_files(folder: Path, split: str) -> list[Path]:
    return sorted([*folder.glob(f"{split}.parquet"), *folder.glob(f"{split}-[0-9]*.parquet")])


def _read_parquet(files: list[Path]) -> pyarrow.Table:
    with recipes_extra():
        from pyarrow import ArrowException, parquet

    try:
        return parquet.read_table([str(path) for path in files])
    except (ArrowException, OSError) as error:
        raise DataError(f"{name_files(files)}: cannot be read as parquet ({error}); fetch it again") from None


def _column(table: pyarrow.Table, name: str, origin: str) -> list[Any]:
    if name not in table.column_names:
        raise DataError(f"{origin}: no column {name!r}; it has {', '.join(table.column_names)}")
    if not table.num_rows:
        raise DataError(f"{origin}: no rows")
    values: list[Any] = table[name].to_pylist()
    return values


def _texts(table: pyarrow.Table, name: str, origin: str) -> list[str]:
    texts = _column(table, name, origin)
    wrong = [row for row, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise DataError(
            f"{origin}: row {wrong[0]} has no text in column {name!r}, but {texts[wrong[0]]!r} "
            f"({len(wrong)} such rows of {len(texts)})"
        )
    return texts


def _labels(table: pyarrow.Table, task: GlueTask, origin: str) -> NDArray[Any]:
    values = _column(table, "label", origin)
    given = np.array([-1 if value is None else value for value in values], dtype=np.float64)
    if (given == -1).all():
        raise DataError(f"{origin}: every label is -1: a test split without labels; GLUE is judged on validation")
    if task.classes == 1:
        right, wanted = (given >= 0) & (given <= _HIGHEST_SCORE), f"a score from 0 to {_HIGHEST_SCORE:g}"
    else:
        right, wanted = np.isin(given, range(task.classes)), f"one of {', '.join(map(str, range(task.classes)))}"
    if not right.all():
        row = int(np.argmin(right))
        raise DataError(
            f"{origin}: row {row} has the label {values[row]}, which is not {wanted} "
            f"({np.count_nonzero(~right)} such rows of {len(values)})"
        )
    return given.astype(np.float32 if task.classes == 1 else np.int64)
