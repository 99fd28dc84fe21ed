"""Reads a cache file: mapped into memory, checked, looked up by sample, by epoch or view, and by mixing partner."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.cache.container import (
    Bytes,
    Header,
    Heads,
    Layout,
    block_is_whole,
    numbers_of,
    pack_footer,
    read_footer,
    read_preamble,
)
from headstart.distill.targets.source import Keys
from headstart.errors import HeadstartError, TeacherError
from headstart.records import TeacherCost

Numbers = NDArray[np.int64]


class _Index(NamedTuple):
    """Where each sample of an epoch, or in a view, lies, in the order of the samples' numbers."""

    numbers: Numbers  # of samples, and of their partners: [1 or 2, samples]
    blocks: Numbers
    begins: Numbers  # of the samples' rows, in the file


class CacheFile:
    """A finished cache file.

    A block is checked against its sum when it is first touched; `check` does so for all.

    Args:
        path: The file.

    Raises:
        TeacherError: It cannot be read, is not finished, or is truncated or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._content = map_file(self.path)
        header, heads = self._read_ends()
        self.header: Header = header
        self.heads: Heads = heads
        self._layout = Layout.of(header)
        self._counts: Numbers = heads["samples"].astype(np.int64)
        sizes = [self._layout.block_bytes(count) for count in self._counts.tolist()]
        ends = len(header.preamble) + np.cumsum([0, *sizes], dtype=np.int64)
        if ends[-1] + len(pack_footer(heads)) != len(self._content):
            raise self._damaged("its length is not what it says itself")
        self._begins = ends[:-1]
        self._sound = np.zeros(len(heads), dtype=bool)
        self._indices: dict[int, _Index] = {}

    @property
    def cost(self) -> TeacherCost:
        """What the teacher cost, as far as that is known: its training, and making all of this file."""
        header = self.header
        training = header.training or TeacherCost(name=header.teacher)
        blocks = float(self._counts.sum() / self._counts[0]) if len(self.heads) else 0.0  # the last may be smaller
        flops = None if header.block_flops is None else header.block_flops * blocks
        seconds = float(self.heads["microseconds"].sum(dtype=np.float64)) / 1e6
        return training.model_copy(update={"cache_seconds": seconds, "cache_flops": flops})

    def read(self, keys: Keys, views: Tensor | None = None) -> Tensor:
        """The stored rows of a batch, sample after sample.

        Args:
            keys: Which.
            views: The view that each sample is seen in, `[batch]` of int64, where the file is of views; then the epoch
                is of no account.

        Returns:
            `[rows, row_bytes]` of uint8, on the CPU.

        Raises:
            TeacherError: A sample is missing or was mixed with another partner, or the file is damaged.
        """
        blocks, begins = self._places(keys, views)
        for block in np.unique(blocks).tolist():
            self._check_block(block)
        # Samples that lie one after the other, as those of a batch like the one written do, are copied as one.
        step = self._layout.sample_bytes
        breaks = np.flatnonzero(np.diff(begins) != step) + 1
        runs = zip(begins[np.r_[0, breaks]], begins[np.r_[breaks - 1, len(begins) - 1]] + step, strict=True)
        content = np.concatenate([self._content[begin:end] for begin, end in runs])
        return torch.from_numpy(content).view(-1, self.header.rows.row_bytes)

    def check(self) -> None:
        """Read all of the file.

        Raises:
            TeacherError: It is damaged.
        """
        for block in range(len(self.heads)):
            self._check_block(block)

    def _read_ends(self) -> tuple[Header, Heads]:
        try:
            header = read_preamble(self._content)
        except HeadstartError as error:
            raise TeacherError(f"{self.path}: {error}") from None
        heads = read_footer(self._content)
        if header is None or heads is None:
            raise self._damaged("its beginning or its end is not as it was written")
        return header, heads

    def _places(self, keys: Keys, views: Tensor | None) -> tuple[Numbers, Numbers]:
        """The block of each sample of a batch, and where its rows begin in the file."""
        asked = numbers_of(keys)
        if self.header.views is None:
            index = self._index(keys.epoch)
            places = self._find(index, asked, keys.epoch)
            return index.blocks[places], index.begins[places]
        assert views is not None
        seen = views.cpu().numpy()
        found = np.empty((2, len(seen)), np.int64)
        for view in np.unique(seen).tolist():
            index, those = self._index(view), seen == view
            places = self._find(index, asked[:, those], view)
            found[:, those] = index.blocks[places], index.begins[places]
        return found[0], found[1]

    def _index(self, number: int) -> _Index:
        """The index of an epoch, or a view.

        Of epochs the last one made is kept, as training goes through one after the other.
        """
        if number not in self._indices:
            kept = {} if self.header.views is None else self._indices
            self._indices = {**kept, number: self._new_index(number)}
        return self._indices[number]

    def _new_index(self, number: int) -> _Index:
        blocks = np.flatnonzero(self.heads["epoch"] == number)
        if not len(blocks):
            raise self._missing(f"of {self.header.word} {number}")
        counts = self._counts[blocks]
        pairs = zip(blocks.tolist(), counts.tolist(), strict=True)
        numbers = np.concatenate([self._layout.numbers(self._block(block), count) for block, count in pairs], axis=1)
        first = self._begins[blocks] + np.array([self._layout.rows_offset(count) for count in counts])
        slots = np.concatenate([np.arange(count) for count in counts])
        begins = np.repeat(first, counts) + slots * self._layout.sample_bytes
        order = np.argsort(numbers[0], kind="stable")
        return _Index(numbers[:, order], np.repeat(blocks, counts)[order], begins[order])

    def _find(self, index: _Index, asked: Numbers, number: int) -> Numbers:
        """The places of samples, and their partners, in the index of an epoch or a view."""
        if len(asked) != len(index.numbers):
            made, given = ("mixed with partners" if len(rows) > 1 else "unmixed" for rows in (index.numbers, asked))
            raise TeacherError(
                f"{self.path}: its targets are for samples {made}, and these are {given}. Keys(samples, epoch, "
                "partners) and the batches that write_cache was given, Batch(partners=...), both have to tell "
                "the partners, or neither; make the cache again where the batches did not"
            )
        places: Numbers = np.searchsorted(index.numbers[0], asked[0]).clip(max=index.numbers.shape[1] - 1)
        wrong = index.numbers[:, places] != asked
        if wrong.any():
            self.check()  # a damaged number would look like a sample that is missing
        if wrong[0].any():
            raise self._missing(f"of sample {asked[0][wrong[0]][0]} in {self.header.word} {number}")
        if wrong.any():
            (sample, partner), old = asked[:, wrong[1]][:, 0], index.numbers[1, places][wrong[1]][0]
            raise TeacherError(
                f"{self.path}: sample {sample} of {self.header.word} {number} was mixed with {old} when its target was "
                f"made, and is mixed with {partner} now; mix as then, or make the cache again"
            )
        return places

    def _block(self, block: int) -> Bytes:
        begin = self._begins[block]
        return self._content[begin : begin + self._layout.block_bytes(self._counts[block])]

    def _check_block(self, block: int) -> None:
        if self._sound[block]:
            return
        if not block_is_whole(self.heads[block], self._block(block)):
            raise self._damaged(f"block {block} (step {self.heads['step'][block]}) is not as it was written")
        self._sound[block] = True

    def _missing(self, what: str) -> TeacherError:
        if self.header.views is not None:
            samples = self._counts.sum() // self.header.views
            return TeacherError(
                f"{self.path}: holds no target {what}. It holds {samples} samples, each in {self.header.views} views "
                "(--by view); make it again for this data"
            )
        epochs, steps = np.unique(self.heads["epoch"]), self.heads["step"]
        held = f"epochs {epochs[0]} to {epochs[-1]}, steps {steps.min()} to {steps.max()}" if len(epochs) else "nothing"
        return TeacherError(
            f"{self.path}: holds no target {what}. It holds {held}, in batches of {self.header.batch_size}; cache the "
            "longest run, with the widest window, every=1 and the same data.seed"
        )

    def _damaged(self, how: str) -> TeacherError:
        return TeacherError(f"{self.path}: the cache is truncated or damaged ({how}); delete it and make it again")


def map_file(path: Path) -> Bytes:
    """A file's bytes, mapped into memory for reading.

    Raises:
        TeacherError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if not path.stat().st_size:
                return np.zeros(0, np.uint8)  # nothing cannot be mapped
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise TeacherError(f"{path}: cannot be read ({error.strerror or error})") from None
