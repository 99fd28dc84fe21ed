"""Text packed while it is read, for corpora that do not fit on the disk."""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headstart.errors import DataError
from headstart.files import write_atomically
from headstart.tasks.text.packing import TextPacker
from headstart.tasks.text.sources import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

LANES = 64  # at most; a power of two, so that the usual numbers of processes share them out evenly
_BLOCK = 256  # documents; of web pages about 1000 sequences of 128 tokens
_ENDLESS = 1 << 40  # sequences; a stream begins anew when it ends


class StreamedSequences:
    """Sequences of a stream, each a pure function of its number and the seed, whatever was read before.

    The files are dealt out, in an order drawn with the seed, to up to 64 lanes, and sequence i is the next of lane
    i mod lanes. A lane reads its files block by block (256 documents), and shuffles the sequences of each block. Only
    lanes that are asked for are read: as `StreamOrder` gives process r of n the sequences i = r mod n, each process
    reads its own files where n divides the number of lanes.

    Which sequence each block of a lane begins with is kept in a file. So a resumed run, or another one with the same
    seed, goes straight to the file and block where it was. Without that, it has to read (and tokenise) from the start.

    Args:
        source: The files.
        packer: Makes the sequences.
        seed: Of the order of files and sequences.
        bookmarks: Folder for where blocks begin; made for this source, packer and seed.

    Raises:
        DataError: Later, when it is read: a file cannot be read, or there is no text in a lane's files.
    """

    def __init__(self, source: Source, packer: TextPacker, *, seed: int, bookmarks: Path) -> None:
        shards = np.random.default_rng(seed).permutation(source.shards).tolist()
        lanes = min(LANES, 1 << (len(shards).bit_length() - 1))
        # One thread reads ahead for all lanes, while the model works.
        pool = ThreadPoolExecutor(1, "headstart-stream")
        self._source = source
        self._lanes = [
            _Lane(source, packer, shards[lane::lanes], (seed, lane), bookmarks / f"{lane:02}-of-{lanes:02}.json", pool)
            for lane in range(lanes)
        ]

    def __len__(self) -> int:
        """More than anybody reads: the stream begins anew, in another order, when it ends."""
        return _ENDLESS

    def describe(self) -> dict[str, int]:
        """How the stream is read."""
        return {"files": self._source.shards, "lanes": len(self._lanes)}

    def rows(self, indices: Tensor) -> Tensor:
        """The tokens of some sequences.

        Args:
            indices: `[n]` of int64, on the CPU. Quick in increasing order from call to call.

        Returns:
            `[n, length]` of int64.
        """
        lanes = len(self._lanes)
        rows = [self._lanes[index % lanes].row(index // lanes) for index in indices.tolist()]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


class StreamOrder:
    """Sequences in the order of the stream, dealt out to the parts of a step one by one.

    Example:
        >>> [StreamOrder().part(1, 4, part, 2)[0].tolist() for part in range(2)]
        [[4, 6], [5, 7]]
    """

    def part(self, step: int, size: int, part: int = 0, parts: int = 1) -> tuple[Tensor, int]:
        """One of the equal parts of a step's batch, as `EpochOrder.part`; the epoch is always 0."""
        return torch.arange(step * size + part, (step + 1) * size, parts), 0


class _Lane:
    """Some of the files, block by block, over and over."""

    def __init__(
        self,
        source: Source,
        packer: TextPacker,
        shards: Sequence[int],
        seed: tuple[int, int],
        bookmarks: Path,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._source, self._packer, self._shards, self._seed = source, packer, shards, seed
        self._bookmarks, self._pool = bookmarks, pool
        # Of each block known so far: the lane's first sequence in it, the turn of its file, and its number in the file.
        self._starts = _read_bookmarks(bookmarks)
        self._blocks: dict[int, Future[NDArray[Any]]] = {}  # the block in use and the one after it
        self._next = -1  # the block that the reader gives next
        self._reader: Iterator[tuple[int, int, list[str]]] = iter(())

    def row(self, position: int) -> NDArray[Any]:
        """One of the lane's sequences, `[length]`."""
        while (number := self._number(position)) == len(self._starts) - 1:
            self._block(number)  # which makes known where the next one begins
        rows, offset = self._block(number), position - self._starts[number][0]
        if 2 * offset >= len(rows) and number + 1 not in self._blocks:
            self._blocks[number + 1] = self._pool.submit(self._read, number + 1)
        row: NDArray[Any] = rows[offset]
        return row

    def _number(self, position: int) -> int:
        """The last block known to begin at this sequence or before it."""
        return bisect_right(self._starts, position, key=lambda start: start[0]) - 1

    def _block(self, number: int) -> NDArray[Any]:
        if number not in self._blocks:
            self._blocks[number] = self._pool.submit(self._read, number)
        rows = self._blocks[number].result()
        self._blocks = {known: self._blocks[known] for known in (number, number + 1) if known in self._blocks}
        return rows

    def _read(self, number: int) -> NDArray[Any]:
        """Read, pack and shuffle a block; only ever called in the pool's one thread."""
        first, turn, batch = self._starts[number]
        if self._next != number:
            self._reader = self._read_on(turn, batch)
        turn, batch, texts = next(self._reader)
        self._next = number + 1
        rows, _, _ = self._packer.pack(texts)
        if self._next == len(self._starts):
            self._starts.append((first + len(rows), turn, batch + 1))
            # Another process that reads the same stream, an arm of a race, may have got further.
            if len(_read_bookmarks(self._bookmarks)) < len(self._starts):
                _write_bookmarks(self._bookmarks, self._starts)
        return np.random.default_rng((*self._seed, number)).permutation(rows)

    def _read_on(self, turn: int, batch: int) -> Iterator[tuple[int, int, list[str]]]:
        while True:
            shard = self._shards[turn % len(self._shards)]
            for number, texts in enumerate(self._source.batches(_BLOCK, shard=shard, start=batch), batch):
                yield turn, number, texts
            turn, batch = turn + 1, 0
            if turn >= len(self._shards) and self._starts[-1][0] == 0:
                raise DataError(
                    f"{self._source.origin}: {len(self._shards)} of its {self._source.shards} files hold too little "
                    f"text for one sequence of data.length={self._packer.length}; leave data.streaming out"
                )


def _read_bookmarks(path: Path) -> list[tuple[int, int, int]]:
    try:
        return [(first, turn, batch) for first, turn, batch in json.loads(path.read_bytes())] or [(0, 0, 0)]
    except (OSError, ValueError, TypeError):
        return [(0, 0, 0)]


def _write_bookmarks(path: Path, starts: Sequence[tuple[int, int, int]]) -> None:
    try:
        write_atomically(path, json.dumps(starts).encode())
    except OSError as error:
        logger.warning("%s: cannot be written (%s); a resumed run will read its text from the start", path, error)
