"""Where data sets are: by path, by name in a few folders, or on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from headstart.errors import DataError
from headstart.extras import recipes_extra
from headstart.tasks.hub import from_hub, one_line

__all__ = [
    "ORIGIN_FILE",
    "cache_folder",
    "files_key",
    "known_split",
    "locate",
    "name_files",
    "pick_split",
    "said_origin",
    "split_name",
]

ORIGIN_FILE = "origin.txt"
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "val": "validation", "valid": "validation"}

T = TypeVar("T")


def cache_folder() -> Path:
    """Return the folder for what can be made or fetched again: `$HEADSTART_CACHE`, or `~/.cache/headstart`."""
    return Path(os.environ.get("HEADSTART_CACHE") or "~/.cache/headstart").expanduser()


def locate(source: str, *, hub_name: str | None = None, advice: str, **options: Any) -> Path | Mapping[str, Any]:
    """Find a data set: as a path, in `$HEADSTART_DATA`, in the cache, on the Hugging Face Hub; in this order.

    Args:
        source: The path or the name.
        hub_name: Its name on the Hub; by default `source`, if that has the form owner/name.
        advice: What the user can do about a data set that is nowhere, for the message.
        options: For `datasets.load_dataset`.

    Returns:
        The path, resolved, or what `datasets` loaded: data sets by split.

    Raises:
        DataError: It is nowhere; names every place that was looked at.
    """
    looked = []
    for place, path in _places(source).items():
        if path is not None and path.exists():
            return path.resolve()
        looked.append(f"  {place}: " + ("not set" if path is None else f"there is no {path}"))
    hub_name = hub_name or source
    if "/" not in hub_name:
        looked.append("  the Hugging Face Hub: not asked, as its names have the form owner/name")
    elif isinstance(answer := _on_hub(hub_name, options), str):
        looked.append(f"  the Hugging Face Hub, {hub_name}: {answer}")
    else:
        return answer
    raise DataError(f"no data set {source!r} here; looked at\n" + "\n".join(looked) + f"\n{advice}")


def known_split(name: str) -> str | None:
    """Return the split that a name says, be it as one of its words; None for one that says none.

    Example:
        >>> [known_split(name) for name in ("train", "val", "images-test", "n01443537")]
        ['train', 'validation', 'test', None]
    """
    found = split_name(name)
    return found if found in _SPLITS.values() else None


def split_name(name: str) -> str:
    """Return the split that a file or a folder holds.

    Example:
        >>> [split_name(name) for name in ("train-00000-of-00002", "c4-validation.00001", "val", "Other2")]
        ['train', 'validation', 'validation', 'other']
    """
    words = re.findall("[a-z]+", name.lower())
    known = [_SPLITS[word] for word in words if word in _SPLITS]
    return (known or words or [name])[0]


def pick_split(splits: Mapping[str, T], wanted: str, where: str) -> tuple[str, T, str]:
    """Choose a split; `validation` stands in for a missing `test`. The last item says so, for the origin.

    Raises:
        DataError: There is no such split.
    """
    if wanted in splits:
        return wanted, splits[wanted], ""
    if wanted == "test" and "validation" in splits:
        return "validation", splits["validation"], " (the validation split: there is no test split)"
    raise DataError(f"{where} has no split {wanted!r}; it has {', '.join(splits)}")


def name_files(files: Sequence[Path]) -> str:
    """Name a few files, or the first of many, for messages."""
    return ", ".join(map(str, files)) if len(files) < 3 else f"{files[0]} and {len(files) - 1} more"


def said_origin(folder: Path) -> str:
    """Return what the tool that fetched the data left about its origin, for appending."""
    path = folder / ORIGIN_FILE
    return f" ({path.read_text(encoding='utf-8').strip()})" if path.is_file() else ""


def files_key(files: Sequence[Path], *choices: object) -> str:
    """Return a key for what is made of these files, as they are now (path, size, time), with these choices."""
    states = [(str(path), status.st_size, status.st_mtime_ns) for path in files for status in [path.stat()]]
    return hashlib.sha256(repr((choices, states)).encode()).hexdigest()[:24]


def _places(source: str) -> dict[str, Path | None]:
    """List where a data set may be, in order of preference."""
    data = os.environ.get("HEADSTART_DATA")
    return {
        "as a path": Path(source).expanduser(),
        "in $HEADSTART_DATA": Path(data).expanduser() / source if data else None,
        "in the cache": cache_folder() / "data" / source,
    }


def _on_hub(name: str, options: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """Load a data set from the Hub, or return why that was not possible."""
    with recipes_extra():
        import datasets

    try:
        with from_hub(name):
            loaded: Mapping[str, Any] = datasets.load_dataset(name, **options)
    except Exception as error:  # the Hub's client raises errors of many libraries
        return one_line(error)
    return loaded
