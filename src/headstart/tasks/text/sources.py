"""Where a corpus is, by path or by name, and its documents in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import DataError
from headstart.extras import recipes_extra
from headstart.tasks.hub import one_line
from headstart.tasks.places import ORIGIN_FILE, files_key, locate, name_files, said_origin, split_name
from headstart.tasks.text.config import TextSource

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Table

# How `datasets` reads a file, by the end of its name; the first kind that a folder holds is taken.
_BUILDERS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".json.gz": "json",
    ".txt": "text",
}
_SPLITS = ("train", "validation", "test")
_WANTED = "train*.parquet, train*.jsonl or train*.txt (documents apart by a blank line)"


@dataclass(frozen=True)
class Source:
    """One split of a corpus.

    Attributes:
        origin: Where it is, for messages and reports.
        key: Changes when the files do.
        dataset: Its rows; with `shard` where it can be read in parts.
        column: The column that holds the text.
        skip: Documents of the first file that are passed over, as others are to hold them.
    """

    origin: str
    key: str
    dataset: Dataset | IterableDataset
    column: str
    skip: int = 0

    @property
    def shards(self) -> int:
        """Number of files that can be read apart."""
        return int(self.dataset.num_shards)

    def batches(self, size: int = 256, *, shard: int | None = None, start: int = 0) -> Iterator[list[str]]:
        """The documents in batches of `size`; what is missing (null) is an empty text.

        Args:
            size: Documents of a batch; the last one may have fewer.
            shard: Of one file only, by its number.
            start: Number of the batch to begin with.

        Raises:
            DataError: A file cannot be read, or there is no such column of text.
        """
        dataset = self.dataset if shard is None else self.dataset.shard(self.shards, shard)
        start += 0 if shard else self.skip // size
        tables = islice(dataset.with_format("arrow").iter(size), start, None)
        while (table := self._next(tables)) is not None:
            yield [text or "" for text in self._texts(table)]

    def count(self) -> int:
        """Number of documents.

        Raises:
            DataError: As `batches`.
        """
        if hasattr(self.dataset, "__len__"):
            return len(self.dataset)
        tables = iter(self.dataset.with_format("arrow").iter(10_000))
        return sum(table.num_rows for table in iter(lambda: self._next(tables), None))

    def _next(self, tables: Iterator[Table]) -> Table | None:
        try:
            return next(tables, None)
        except Exception as error:  # of Arrow, of `datasets`, of the Hub's client and its network library
            raise DataError(f"{self.origin}: cannot be read ({one_line(error)}); fetch it again") from None

    def _texts(self, table: Table) -> list[str | None]:
        import pyarrow

        if self.column not in table.column_names:
            raise DataError(
                f"{self.origin}: there is no column {self.column!r}, there is {', '.join(table.column_names)}; "
                "name the one that holds the text with data.column"
            )
        found = table.schema.field(self.column).type
        if not (pyarrow.types.is_string(found) or pyarrow.types.is_large_string(found)):
            raise DataError(f"{self.origin}: data.column={self.column!r} holds {found} and no text; name another")
        texts: list[str | None] = table[self.column].to_pylist()
        return texts


def find_splits(data: TextSource) -> Mapping[str, Source]:
    """Find a corpus: its splits by name.

    Raises:
        DataError: It is nowhere (names every place that was looked at), or no file of it can be read.
    """
    options = {"name": data.subset, "streaming": True} if data.streaming else {"name": data.subset}
    found = locate(data.name, advice=_advice(), **options)
    if isinstance(found, Path):
        inner = found / (data.subset or "")
        return _on_disk(inner if inner.exists() else found, data.column)
    name = data.name if data.subset is None else f"{data.name} ({data.subset})"
    return {
        split: Source(f"Hugging Face Hub, {name}, {split}", _hub_key(data, split, rows), rows, data.column)
        for split, rows in found.items()
    }


def _advice() -> str:
    return (
        "give the path of a file or a folder, put one of that name into $HEADSTART_DATA or the cache, or reach the "
        f"Hub; a folder holds {_WANTED}. `python tools/small_text.py` in headstart's repository fetches a small corpus"
    )


def _on_disk(place: Path, column: str) -> Mapping[str, Source]:
    """Take the splits from a folder of files, or from one file, which then is the training split."""
    with recipes_extra():
        import datasets

    kind, splits = _split_files(place)
    options = {"sample_by": "paragraph"} if kind == "text" else {}
    origins = {split: name_files(files) + said_origin(files[0].parent) for split, files in splits.items()}
    try:
        loaded = datasets.load_dataset(
            kind,
            data_files={split: list(map(str, files)) for split, files in splits.items()},
            streaming=True,
            **options,
        )
    except Exception as error:  # what it raises on broken files depends on the format
        raise DataError(f"{place}: cannot be read as {kind} ({one_line(error)}); fetch it again") from None
    column = "text" if kind == "text" else column
    return {
        split: Source(origins[split], files_key(files, column), loaded[split], column)
        for split, files in splits.items()
    }


def _split_files(place: Path) -> tuple[str, Mapping[str, Sequence[Path]]]:
    """List the files by split; those that name none are left out where others do, else they are all for training."""
    if not place.is_dir():
        kinds = [builder for ending, builder in _BUILDERS.items() if place.name.endswith(ending)]
        if not kinds:
            raise DataError(f"{place}: no file of a known kind; known are {', '.join(_BUILDERS)}")
        return kinds[0], {"train": [place]}
    for builder in dict.fromkeys(_BUILDERS.values()):
        endings = tuple(ending for ending, kind in _BUILDERS.items() if kind == builder)
        files = sorted(path for path in place.iterdir() if path.name.endswith(endings) and path.name != ORIGIN_FILE)
        if files:
            named = {split: found for split in _SPLITS if (found := [p for p in files if split_name(p.stem) == split])}
            return builder, named or {"train": files}
    raise DataError(f"{place} holds no corpus; wanted are {_WANTED}")


def _hub_key(data: TextSource, split: str, rows: Dataset | IterableDataset) -> str:
    """A key from the files that `datasets` keeps; of a stream, which it keeps none of, from its name."""
    if data.streaming:
        return hashlib.sha256(repr((data.name, data.subset, split, data.column)).encode()).hexdigest()[:24]
    return files_key([Path(file["filename"]) for file in rows.cache_files], data.column)
