"""Writes a cache file block by block; a writer that was killed goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from headstart.cache.container import (
    HEAD,
    HEAD_MAGIC,
    Bytes,
    Header,
    Heads,
    Layout,
    block_is_whole,
    pack_block,
    pack_footer,
    read_preamble,
)
from headstart.cache.fingerprint import differences
from headstart.cache.reader import CacheFile, map_file
from headstart.distill.targets.source import Keys
from headstart.errors import HeadstartError

Plan = Sequence[tuple[int, int]]  # step and part of each block
# What of a header two files of the same targets share, and what only says how they were cut into blocks.
_MADE_OF, _CUT = ("rows", "rows_per_sample", "mixed", "views"), ("batch_size", "parts")


class CacheWriter:
    """Appends blocks to `PATH.part`, which becomes `PATH` once all of the plan is there.

    Blocks that are there already are kept: those of a writer that was killed, up to the last whole one, and those of a
    finished file from which a longer plan goes on.

    Args:
        path: The file.
        header: What it says about itself.
        plan: Step and part of each block, in order.

    Raises:
        HeadstartError: The file holds targets of something else or of another plan, or cannot be written.
    """

    def __init__(self, path: Path, header: Header, plan: Plan) -> None:
        self.path, self._header, self._plan = path, header, plan
        self._part = path.with_name(f"{path.name}.part")
        self._file: IO[bytes] | None = None
        self._heads: list[Heads] = []
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and self._finished():
                return
            self._file = open(self._part, "ab", buffering=0)  # noqa: SIM115 - until __exit__
            self._end = self._recover()
            self._file.truncate(self._end)
            if not self._end:
                self._write(header.preamble)
            self._finish_if_complete()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def done(self) -> int:
        """How many blocks of the plan are there."""
        return len(self._plan) if self._file is None else len(self._heads)

    def append(self, keys: Keys, rows: Bytes, *, seconds: float = 0.0) -> None:
        """Write the next block of the plan, and the footer after the last one.

        Args:
            keys: The block's samples.
            rows: Theirs, `[rows, row_bytes]` of uint8, as the header's format encodes them.
            seconds: What making them took; kept with the block, so that the cost of a cache is known however often its
                making was interrupted.

        Raises:
            HeadstartError: It cannot be written, most often because the disk is full. The blocks before it stay.
        """
        step, part = self._plan[self.done]
        head, block = pack_block(self.done, step, part, keys, rows, seconds=seconds)
        with self._writing():
            self._write(block)
            self._heads.append(head)
            self._finish_if_complete()

    def _finish_if_complete(self) -> None:
        if self._file is None or len(self._heads) < len(self._plan):
            return
        self._write(pack_footer(np.concatenate(self._heads)))
        os.fsync(self._file.fileno())
        self._refuse_other_writer()
        self._file.close()
        self._file = None
        os.replace(self._part, self.path)

    def _write(self, content: bytes) -> None:
        """Write all of it; what a full disk leaves of it is taken back."""
        assert self._file is not None
        self._refuse_other_writer()
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(content)

    def _refuse_other_writer(self) -> None:
        """Stop before blocks of two writers mingle, or one of them adds to what the other has finished."""
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size != self._end:
            raise HeadstartError(
                f"{self._part}: another process writes to it too; wait for that one, or stop it and start this again"
            )

    def _finished(self) -> bool:
        """Whether a finished file holds the plan; a shorter one becomes unfinished again.

        One of all views of the same samples is whole, in whatever batches these were asked for.
        """
        found = CacheFile(self.path)
        by_view = found.header.views is not None and found.header.views == self._header.views
        self._refuse_other(found.header, self.path, _MADE_OF if by_view else (*_MADE_OF, *_CUT))
        if by_view:
            return True
        self._refuse_other_plan(found.heads, self.path)
        if len(found.heads) >= len(self._plan):
            return True
        os.replace(self.path, self._part)
        return False

    def _recover(self) -> int:
        """Take over the whole blocks of an unfinished file; where they end."""
        content = map_file(self._part)
        try:
            found = read_preamble(content)
        except HeadstartError as error:
            raise HeadstartError(f"{self._part}: {error}") from None
        if found is None:
            return 0
        self._refuse_other(found, self._part)
        layout, begin = Layout.of(self._header), len(found.preamble)
        while begin + HEAD.itemsize <= len(content):
            head = content[begin : begin + HEAD.itemsize].view(HEAD).copy()
            end = begin + layout.block_bytes(int(head["samples"][0]))
            whole = end <= len(content) and block_is_whole(head[0], content[begin:end])
            if head["magic"][0] != HEAD_MAGIC or not whole:
                break
            self._heads.append(head)
            begin = end
        if self._heads:
            self._refuse_other_plan(np.concatenate(self._heads), self._part)
        return begin

    def _refuse_other(self, found: Header, path: Path, names: Sequence[str] = (*_MADE_OF, *_CUT)) -> None:
        lines = differences(found.fingerprint, self._header.fingerprint)
        for name in names:
            old, new = getattr(found, name), getattr(self._header, name)
            if old != new:
                lines.append(f"{name}: {old} there, {new} now")
        if lines:
            raise HeadstartError(
                f"{path}: holds targets of something else; take another folder, or delete it\n  " + "\n  ".join(lines)
            )

    def _refuse_other_plan(self, heads: Heads, path: Path) -> None:
        both = min(len(heads), len(self._plan))
        there = [(int(head["step"]), int(head["part"])) for head in heads[:both]]
        if there != list(self._plan[:both]):
            raise HeadstartError(
                f"{path}: holds the targets of other steps (another window or every); take another folder, or delete it"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HeadstartError(
                f"{self._part}: cannot be written ({error.strerror or error}); the {len(self._heads)} batches before "
                "stay. Make room, then start the same command again: it goes on from there"
            ) from None
