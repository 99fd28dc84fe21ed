"""Where a data set of images is, by path or by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from headstart.errors import DataError
from headstart.tasks.images._rows import SUFFIXES, Rows, read_hub, read_parquet, read_tree

if TYPE_CHECKING:
    from datasets import Dataset

HUB_NAMES = {"fashion-mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}
ORIGIN_FILE = "origin.txt"

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """One split of a data set that exists: the files it depends on, and how to read it.

    `read` takes the columns of images and of labels, `None` for the only one of the fitting type.
    """

    origin: str
    split: str
    files: Sequence[Path]
    read: Callable[[str | None, str | None], Rows]


def cache_folder() -> Path:
    """Return the folder for what can be made or fetched again: `$HEADSTART_CACHE`, or `~/.cache/headstart`."""
    return Path(os.environ.get("HEADSTART_CACHE") or "~/.cache/headstart").expanduser()


def find(source: str, split: str) -> Found:
    """Find a split of a data set.

    Raises:
        DataError: The data set is nowhere (names every place that was looked at), or has no such split.
    """
    looked = []
    for place, folder in _places(source).items():
        if folder is not None and folder.exists():
            return _in_folder(folder.resolve(), split)
        looked.append(f"  {place}: " + ("not set" if folder is None else f"there is no {folder}"))
    hub_name = HUB_NAMES.get(source, source)
    if "/" not in hub_name:
        looked.append("  the Hugging Face Hub: not asked, as its names have the form owner/name")
    elif isinstance(answer := _on_hub(hub_name), str):
        looked.append(f"  the Hugging Face Hub, {hub_name}: {answer}")
    else:
        return _in_hub_dataset(hub_name, answer, split)
    raise DataError(f"no data set {source!r} here; looked at\n" + "\n".join(looked) + f"\n{_advice(source)}")


def _places(source: str) -> dict[str, Path | None]:
    """List the folders where a data set may be, in order of preference."""
    data = os.environ.get("HEADSTART_DATA")
    return {
        "as a path": Path(source).expanduser(),
        "in $HEADSTART_DATA": Path(data).expanduser() / source if data else None,
        "in the cache": cache_folder() / "data" / source,
    }


def _advice(source: str) -> str:
    """Say what to do about a data set that is nowhere."""
    if source == "fashion-mnist":
        return "run `python tools/fashion_mnist.py` in headstart's repository, which fetches it (so does `make demo`)"
    return (
        "give the path of a folder, put one of that name into $HEADSTART_DATA or the cache, or reach the Hub; "
        "a folder holds train*.parquet and test*.parquet, or <split>/<class>/<image>"
    )


def _in_folder(folder: Path, split: str) -> Found:
    """Take a split from a folder of parquet files, or of one image a file."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one that holds train*.parquet, or <split>/<class>/<image>")
    tables: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        tables.setdefault(_split_name(path.stem), []).append(path)
    if tables:
        split, files, note = _pick(tables, split, str(folder))
        origin = ", ".join(map(str, files)) if len(files) < 3 else f"{files[0]} and {len(files) - 1} more"
        return Found(origin + _said_origin(folder) + note, split, files, partial(read_parquet, files, origin))
    trees = {_split_name(path.name): path for path in _folders(folder) if _folders(path)}
    if not trees:
        raise DataError(f"{folder} holds no data set; wanted are train*.parquet, or <split>/<class>/<image>")
    split, tree, note = _pick(trees, split, str(folder))
    files = [path for part in _folders(tree) for path in _visible(part) if path.suffix.lower() in SUFFIXES]
    classes = tuple(path.name for path in _folders(trees.get("train", tree)))
    read = partial(read_tree, files, classes, str(tree))
    return Found(f"{tree}{note}", split, files, read)


def _split_name(name: str) -> str:
    """Return the split a file or folder holds: `train-00000-of-00002` is of `train`, `val` is `validation`."""
    start = re.match(r"[a-z]*", name.lower())
    word = start.group() if start else ""
    return "validation" if word in ("val", "valid") else word or name


def _pick(splits: Mapping[str, T], wanted: str, where: str) -> tuple[str, T, str]:
    """Choose a split; `validation` stands in for a missing `test`. The last item says so, for the origin."""
    if wanted in splits:
        return wanted, splits[wanted], ""
    if wanted == "test" and "validation" in splits:
        return "validation", splits["validation"], " (the validation split: there is no test split)"
    raise DataError(f"{where} has no split {wanted!r}; it has {', '.join(splits)}")


def _said_origin(folder: Path) -> str:
    """Return what the tool that fetched the data left about its origin, for appending."""
    path = folder / ORIGIN_FILE
    return f" ({path.read_text(encoding='utf-8').strip()})" if path.is_file() else ""


def _folders(folder: Path) -> list[Path]:
    """List the folders in a folder."""
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    """List what is in a folder, by name, without hidden files such as `.ipynb_checkpoints` and `._image.png`."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _on_hub(name: str) -> Mapping[str, Dataset] | str:
    """Load a data set from the Hub, or return why that was not possible."""
    import datasets

    try:
        loaded: Mapping[str, Dataset] = datasets.load_dataset(name)
    except Exception as error:  # the Hub's client raises errors of many libraries
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return loaded


def _in_hub_dataset(name: str, splits: Mapping[str, Dataset], split: str) -> Found:
    """Take a split from a data set of the Hub; the files it depends on are those that `datasets` keeps of it."""
    origin = f"Hugging Face Hub, {name}"
    split, dataset, note = _pick(splits, split, origin)
    files = [Path(file["filename"]) for file in dataset.cache_files]
    return Found(f"{origin}, {split}{note}", split, files, partial(read_hub, dataset, origin))
