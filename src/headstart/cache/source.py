"""A cached teacher: gives the targets that the live one gave, and never runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.cache.fingerprint import Fingerprint, differences
from headstart.cache.formats import FullRows, check_rows
from headstart.cache.reader import CacheFile
from headstart.distill.targets.source import Keys, Target, TargetSource, Use
from headstart.errors import HeadstartError, TeacherError
from headstart.records import TeacherCost

_SUFFIX = ".targets"


class CachedTeacher(TargetSource):
    """Reads one teacher's targets from a cache folder. Give it to a `TeacherPool` in the live teacher's place.

    Args:
        folder: The cache folder, as `write_cache` filled it.
        name: The teacher's name when it was cached.
        expected: The fingerprint that this run's data, and its teacher where that is at hand, have now. Without one,
            nothing tells whether the targets fit.
        view_of: Tells which view of each sample `[batch]` a batch of some epoch has, `[batch]` of int64; needed where
            the cache is of views.

    Attributes:
        views: How many views of each sample the cache holds, where it is of views and not of epochs.

    Raises:
        TeacherError: There is no such cache, it is damaged or not finished, or it was made with another teacher or
            other data: says what differs.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        *,
        expected: Fingerprint | None = None,
        view_of: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        self.name, self._view_of = name, view_of
        self._file = CacheFile(_existing(Path(folder), name))
        self.views = self._file.header.views
        self.sparse = not isinstance(self._file.header.rows, FullRows)
        self._device = torch.device("cpu")
        if (held := self._file.header.teacher) != name:  # two names may lead to one file
            raise TeacherError(f"{self._file.path}: holds targets of teacher {held!r}, and not of {name!r}")
        if expected is not None:
            self.check_fit(expected)

    def check_fit(self, expected: Fingerprint) -> None:
        """Refuse targets of something else than what this run has; `expected` as above.

        Raises:
            TeacherError: Says what differs.
        """
        lines = differences(self._file.header.fingerprint, expected)
        if lines:
            raise TeacherError(
                f"{self._file.path}: holds targets of something else:\n  "
                + "\n  ".join(lines)
                + "\nmake the cache again (headstart cache), or go back to the settings it was made with"
            )

    @property
    def cost(self) -> TeacherCost:
        """What training the teacher and making the cache took, as far as that is known."""
        return self._file.cost

    def targets(self, inputs: Any, keys: Keys | None) -> Target:
        """What the live teacher gave for the same samples, on the device last named to `to`.

        Args:
            inputs: Not used.
            keys: Which samples, in which epoch.

        Raises:
            HeadstartError: There are no keys.
            TeacherError: The cache does not hold them, or is damaged.
        """
        if keys is None:
            raise HeadstartError(
                f"teacher {self.name!r} is cached, and nothing tells which samples these are: call "
                "distiller(..., keys=Keys(samples, epoch))"
            )
        packed = self._read(keys)
        if self._device.type == "cuda":
            packed = packed.pin_memory()  # else the copy would wait for the device
        return self._file.header.rows.decode(packed.to(self._device, non_blocking=True))

    def require(self, keys: Keys) -> None:
        """Make sure that a batch is there, before training comes to it.

        Raises:
            TeacherError: It is not, or the file is damaged there.
        """
        self._read(keys)

    def to(self, device: torch.device) -> None:
        """Give the targets on this device from now on."""
        self._device = device

    def check(self, use: Use) -> None:
        """As in `TargetSource`: sparse targets are good for some losses, at one temperature."""
        check_rows(f"cached teacher {self.name!r}", self._file.header.rows, use)

    def _read(self, keys: Keys) -> Tensor:
        if self.views is None:
            return self._file.read(keys)
        if self._view_of is None:
            raise HeadstartError(
                f"{self._file.path}: holds {self.views} views of each sample, and nothing tells which of them a batch "
                "has; give CachedTeacher(view_of=...)"
            )
        return self._file.read(keys, self._view_of(keys.samples, keys.epoch))


def cache_file(folder: str | Path, name: str) -> Path:
    """The file of a teacher in a cache folder.

    Example:
        >>> cache_file("targets", "runs/old").as_posix()
        'targets/runs_old.targets'
    """
    return Path(folder) / (re.sub(r"[^\w.-]+", "_", name).strip("_") + _SUFFIX)


def cached_names(folder: str | Path) -> Sequence[str]:
    """The teachers whose targets a cache folder holds."""
    return [CacheFile(path).header.teacher for path in sorted(Path(folder).glob(f"*{_SUFFIX}"))]


def _existing(folder: Path, name: str) -> Path:
    path = cache_file(folder, name)
    if path.exists():
        return path
    if path.with_name(f"{path.name}.part").exists():
        raise TeacherError(f"{path}: is not finished; start the same headstart cache command again, and it goes on")
    names = ", ".join(cached_names(folder)) or "none"
    raise TeacherError(f"{path}: no such cache; make it with headstart cache (teachers cached in {folder}: {names})")
