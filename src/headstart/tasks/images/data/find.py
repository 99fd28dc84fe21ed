"""Where a data set of images is, by path or by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import DataError
from headstart.tasks.images.data.on_disk import open_hub, open_parquet, open_shards, open_tree
from headstart.tasks.images.data.rows import Rows, read_hub, read_parquet, read_tree
from headstart.tasks.images.data.trees import Tree, trees_in
from headstart.tasks.places import locate, name_files, pick_split, said_origin, split_name

if TYPE_CHECKING:
    from datasets import Dataset

HUB_NAMES = {"fashion-mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}
_WANTED = "train*.tar (WebDataset), train*.parquet, or <split>/<class>/<image>"


@dataclass(frozen=True)
class Found:
    """One split of a data set that exists: the files it depends on, and how to read it.

    `read` takes the columns of images and of labels, `None` for the only one of the fitting type. `open` does without
    them, and leaves images on the disk until they are asked for.
    """

    origin: str
    split: str
    files: Sequence[Path]
    read: Callable[[str | None, str | None], Rows]
    open: Callable[[], Rows]


def find(source: str, split: str) -> Found:
    """Find a split of a data set.

    Raises:
        DataError: The data set is nowhere (names every place that was looked at), or has no such split.
    """
    hub_name = HUB_NAMES.get(source, source)
    found = locate(source, hub_name=hub_name, advice=_advice(source))
    return _in_folder(found, split) if isinstance(found, Path) else _in_hub_dataset(hub_name, found, split)


def _advice(source: str) -> str:
    """Say what to do about a data set that is nowhere."""
    if source == "fashion-mnist":
        return "run `python tools/fashion_mnist.py` in headstart's repository, which fetches it (so does `make demo`)"
    return (
        "give the path of a folder, put one of that name into $HEADSTART_DATA or the cache, or reach the Hub; "
        f"a folder holds {_WANTED}, and the like for the test split"
    )


def _in_folder(folder: Path, split: str) -> Found:
    """Take a split from a folder of parquet files, of one image a file, or of WebDataset shards."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one that holds {_WANTED}")
    if tables := _by_split(folder.glob("*.parquet")):
        split, files, note = pick_split(tables, split, str(folder))
        place = name_files(files)
        readers = partial(read_parquet, files, place), partial(open_parquet, files, place)
        return Found(place + said_origin(folder) + note, split, files, *readers)
    if trees := trees_in(folder, split):
        split, tree, note = pick_split(trees, split, str(folder))
        return _in_tree(tree, split, trees.get("train", tree), note)
    if shards := _by_split(folder.glob("*.tar")):
        split, files, note = pick_split(shards, split, str(folder))
        reader = partial(open_shards, files, shards.get("train", files), name_files(files))
        return Found(name_files(files) + said_origin(folder) + note, split, files, reader, reader)
    raise DataError(f"{folder} holds no data set; wanted are {_WANTED}, with one folder a class")


def _by_split(files: Iterable[Path]) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for path in sorted(files):
        splits.setdefault(split_name(path.stem), []).append(path)
    return splits


def _in_tree(tree: Tree, split: str, training: Tree, note: str) -> Found:
    """Take a split of one image a file; the training split's folders are the classes."""
    files = tree.images(all_classes=tree is training)
    what = files, training.classes, tree.path
    return Found(f"{tree.path}{note}", split, files, partial(read_tree, *what), partial(open_tree, *what))


def _in_hub_dataset(name: str, splits: Mapping[str, Dataset], split: str) -> Found:
    """Take a split from a data set of the Hub; the files it depends on are those that `datasets` keeps of it."""
    origin = f"Hugging Face Hub, {name}"
    split, dataset, note = pick_split(splits, split, origin)
    files = [Path(file["filename"]) for file in dataset.cache_files]
    readers = partial(read_hub, dataset, origin), partial(open_hub, dataset, origin)
    return Found(f"{origin}, {split}{note}", split, files, *readers)
