"""Runs teachers once over the batches that a training distils on, and keeps what they gave."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from headstart.cache.batches import Batches
from headstart.cache.container import Header, file_bytes
from headstart.cache.fingerprint import fingerprint
from headstart.cache.formats import Keep, check_rows
from headstart.cache.source import cache_file
from headstart.cache.writer import CacheWriter
from headstart.distill import Teacher
from headstart.distill.nonfinite import finite_rows
from headstart.distill.targets.source import Keys, Use
from headstart.errors import HeadstartError, TeacherError
from headstart.files import size_told
from headstart.records import TeacherCost
from headstart.tasks import Batch
from headstart.tasks.random import random_below

_PACKAGES = ("headstart", "torch")


@dataclass(frozen=True)
class Forecast:
    """What a cache will take.

    Attributes:
        bytes: Of all its files, when they are finished.
        free: Bytes free on the disk now.
        samples: Whose targets it will hold, epochs, or views, counted one by one.
        teachers: That give them.

    Example:
        >>> print(Forecast(bytes=31_500_000, free=20_000_000_000, samples=512_000, teachers=1))
        targets of 512000 samples from 1 teacher: 31.5 MB, of 20.0 GB free
    """

    bytes: int
    free: int
    samples: int
    teachers: int

    def __str__(self) -> str:
        plural = "" if self.teachers == 1 else "s"
        return (
            f"targets of {self.samples} samples from {self.teachers} teacher{plural}: {size_told(self.bytes)}, of "
            f"{size_told(self.free)} free"
        )


class Progress(Protocol):
    """Told how a cache comes along."""

    def forecast(self, forecast: Forecast) -> None:
        """Before the first byte is written."""
        ...  # pragma: no cover

    def cached(self, done: int, total: int) -> None:
        """So many batches of so many are there."""
        ...  # pragma: no cover


def write_cache(
    folder: str | Path,
    teachers: Sequence[Teacher],
    batches: Batches,
    *,
    data: Mapping[str, Any],
    use: Use,
    keep: Keep = Keep(),  # noqa: B008 - immutable
    training: Mapping[str, TeacherCost] | None = None,
    flops: Callable[[Teacher, Any], float] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Cache the targets of all these teachers; what is there already is not made again.

    Args:
        folder: The cache folder; gets one file a teacher.
        teachers: On the task's device.
        batches: Which batches.
        data: Settings that the inputs depend on: see `Fingerprint`.
        use: What is to be done with the targets; sparse ones are made for its temperature.
        keep: What to keep of each target.
        training: What training the teachers cost, by their names. Kept in the files beside the seconds that making them
            takes, so that runs that read them can tell.
        flops: Counts the FLOPs of a teacher's forward for given inputs; kept too.
        progress: Told what it will take, and how it comes along.

    Returns:
        The files.

    Raises:
        HeadstartError: The disk has no room for it (nothing is written then) or fills up meanwhile (what is there
            stays), the folder holds targets of something else, or what is kept is not good for its use.
        TeacherError: A teacher gave non-finite logits.
    """
    folder = Path(folder)
    headers = [
        _header(teacher, batches, data, use, keep).model_copy(update=_cost(teacher, batches, training or {}, flops))
        for teacher in teachers
    ]
    paths = [cache_file(folder, teacher.name) for teacher in teachers]
    if len(set(paths)) < len(paths):
        raise TeacherError(f"two teachers would share a file in {folder}; give them names that differ more")
    plan = batches.plan
    _check_room(folder, paths, headers, batches, progress)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(CacheWriter(path, header, plan)) for path, header in zip(paths, headers, strict=True)
        ]
        for number in range(min(writer.done for writer in writers), len(plan)):
            begin = perf_counter()
            batch = batches.batch(*plan[number])  # counted to the first teacher
            for teacher, writer, header in zip(teachers, writers, headers, strict=True):
                if writer.done == number:
                    rows = _rows(teacher, batch, header)
                    writer.append(_keys(batch, header), rows, seconds=perf_counter() - begin)
                    begin = perf_counter()
            if progress is not None:
                progress.cached(number + 1, len(plan))
    return paths


def _rows(teacher: Teacher, batch: Batch, header: Header) -> Any:
    """A batch's targets as bytes."""
    logits = teacher.logits(batch.inputs).flatten(0, -2)
    if not bool(finite_rows(logits).all()):
        raise TeacherError(
            f"teacher {teacher.name!r} gave non-finite logits in {header.word} {batch.epoch}. Check its weights and "
            "input normalisation, and whether it overflows in half precision"
        )
    uniforms = _uniforms(batch, header)
    return header.rows.encode(logits, uniforms.to(logits.device)).cpu().numpy()


def _keys(batch: Batch, header: Header) -> Keys:
    """What a batch's targets are looked up by."""
    if (batch.partners is not None) != header.mixed:
        raise HeadstartError(
            f"a batch of {header.word} {batch.epoch} tells {'no' if header.mixed else 'its'} mixing partners, and the "
            "first did otherwise; give Batch(partners=...) with all batches, or with none"
        )
    return Keys(batch.samples, batch.epoch, batch.partners)


def _uniforms(batch: Batch, header: Header) -> Tensor:
    """One number in (0, 1) for each row, which follows from teacher, epoch, sample, and place in the sample alone."""
    limit = 1 << 31
    places = torch.arange(header.rows_per_sample)
    seed = zlib.crc32(header.teacher.encode())
    drawn = random_below(limit, batch.samples.cpu().view(-1, 1), seed=seed, epoch=batch.epoch, stream=places)
    return (drawn.flatten().double() + 0.5) / limit


def _header(teacher: Teacher, batches: Batches, data: Mapping[str, Any], use: Use, keep: Keep) -> Header:
    """What a teacher's file will say about itself; asks the teacher for one batch."""
    if not batches.steps:
        raise HeadstartError("nothing to cache: the run distils on no step; look at distill.start and distill.stop")
    first = batches.batch(batches.steps[0], 0)
    logits = teacher.logits(first.inputs).flatten(0, -2)
    rows, over = divmod(len(logits), len(first.samples))
    if over or not rows:
        raise TeacherError(
            f"teacher {teacher.name!r} gives {len(logits)} rows of logits for {len(first.samples)} samples; a cache "
            "needs the same number for each sample"
        )
    form = keep.format(logits, use.temperature)
    check_rows(f"teacher {teacher.name!r}", form, use)
    return Header(
        teacher=teacher.name,
        fingerprint=fingerprint(teacher, batches.task, data),
        rows=form,
        rows_per_sample=rows,
        mixed=first.partners is not None,
        views=batches.views,
        batch_size=batches.size,
        parts=batches.parts,
        versions=versions(),
    )


def _cost(
    teacher: Teacher,
    batches: Batches,
    training: Mapping[str, TeacherCost],
    flops: Callable[[Teacher, Any], float] | None,
) -> dict[str, Any]:
    """What the header says of a teacher's cost."""
    counted = None if flops is None else flops(teacher, batches.batch(batches.steps[0], 0).inputs)
    return {"training": training.get(teacher.name), "block_flops": counted}


def _check_room(
    folder: Path, paths: Sequence[Path], headers: Sequence[Header], batches: Batches, progress: Progress | None
) -> None:
    place = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    plan, free = batches.plan, shutil.disk_usage(place).free
    wanted = sum(file_bytes(header, len(plan), batches.samples) for header in headers)
    there = sum(file.stat().st_size for path in paths for file in path.parent.glob(f"{path.name}*"))
    if progress is not None:
        progress.forecast(Forecast(bytes=wanted, free=free, samples=batches.samples, teachers=len(headers)))
    if wanted - there > free:
        raise HeadstartError(
            f"{folder}: the cache takes {size_told(wanted)} and the disk has {size_told(free)} free; keep less of each "
            "target (top-k or sampled, a smaller count), cache fewer teachers or a shorter window, or take another disk"
        )


def versions() -> dict[str, str]:
    """Those of the packages that make targets, to look at."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
