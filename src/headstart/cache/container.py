"""The file that holds one teacher's targets: how its bytes lie.

    preamble  magic, length and CRC-32 of the header; the header (JSON)
    block 0   head; samples; [mixing partners]; the samples' rows
    block 1   ...
    footer    the heads of all blocks once more; magic, their number, CRC-32 of the footer

A block is one micro-batch; of a cache of views, samples in one view, whose number stands in the epoch's place. All rows
take the same number of bytes, so that any sample is found by arithmetic. The CRC-32 in a block's head covers all of the
block, and the file's length has to be what header and footer add up to: so no byte of the file can change, be lost or
be added without notice.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headstart.cache.fingerprint import Fingerprint
from headstart.cache.formats import RowFormat
from headstart.distill.targets.source import Keys
from headstart.errors import HeadstartError
from headstart.records import Amount, Record, TeacherCost

Bytes = NDArray[np.uint8]
Heads = NDArray[Any]  # of dtype HEAD

VERSION = 2
PREAMBLE = struct.Struct("<8sII")
PREAMBLE_MAGIC = b"HDSTART\x01"
FOOTER = struct.Struct("<8sII")
FOOTER_MAGIC = b"HDSTEND\x01"
HEAD = np.dtype(
    [(name, "<u4") for name in ("magic", "number", "step", "part", "epoch", "samples", "microseconds", "crc")]
)
HEAD_MAGIC = 0x4B434C42
_SAMPLE = np.dtype("<u4")


class Header(Record):
    """What a cache file says about itself.

    Attributes:
        version: Of the file's form.
        teacher: Its name.
        fingerprint: What the targets depend on.
        rows: How a row is stored.
        rows_per_sample: 1 for images; for masked language modelling the number of masked tokens.
        mixed: Whether samples are mixed with partners, whose numbers are then kept.
        views: How many views of each sample there are, where blocks are of a view and not of an epoch.
        batch_size: Samples of a step when it was made; readers may have another.
        parts: Micro-batches of a step when it was made.
        versions: Of the packages that made it, to look at.
        training: What training the teacher cost, where that is known.
        block_flops: Of the teacher's forward for one block, where they were counted.
    """

    version: int = VERSION
    teacher: str
    fingerprint: Fingerprint
    rows: RowFormat
    rows_per_sample: int = Field(ge=1)
    mixed: bool = False
    views: int | None = Field(None, ge=1)
    batch_size: int = Field(ge=1)
    parts: int = Field(ge=1)
    versions: dict[str, str]
    training: TeacherCost | None = None
    block_flops: Amount | None = None

    @property
    def word(self) -> str:
        """What the number beside a sample's is of."""
        return "epoch" if self.views is None else "view"

    @property
    def preamble(self) -> bytes:
        """The file's first bytes."""
        content = self.model_dump_json().encode()
        return PREAMBLE.pack(PREAMBLE_MAGIC, len(content), zlib.crc32(content)) + content


@dataclass(frozen=True)
class Layout:
    """Where things lie in a block.

    Attributes:
        sample_bytes: Of all rows of one sample.
        mixed: As in the header.
    """

    sample_bytes: int
    mixed: bool

    @classmethod
    def of(cls, header: Header) -> Layout:
        """The layout that a header describes."""
        return cls(header.rows.row_bytes * header.rows_per_sample, header.mixed)

    def rows_offset(self, samples: int) -> int:
        """Where the rows begin in a block of so many samples."""
        return HEAD.itemsize + samples * _SAMPLE.itemsize * (2 if self.mixed else 1)

    def block_bytes(self, samples: int) -> int:
        """Length of a block of so many samples."""
        return self.rows_offset(samples) + samples * self.sample_bytes

    def numbers(self, block: Bytes, samples: int) -> NDArray[np.int64]:
        """The samples of a block, and where they are mixed their partners in a second row: `[1 or 2, samples]`."""
        content = block[HEAD.itemsize : self.rows_offset(samples)]
        return content.view(_SAMPLE).astype(np.int64).reshape(2 if self.mixed else 1, samples)


def file_bytes(header: Header, blocks: int, samples: int) -> int:
    """Length of a whole file of so many blocks, which hold so many samples."""
    layout = Layout.of(header)
    heads = blocks * (layout.block_bytes(0) + HEAD.itemsize)
    return len(header.preamble) + heads + layout.block_bytes(samples) - layout.block_bytes(0) + FOOTER.size


def numbers_of(keys: Keys) -> NDArray[np.int64]:
    """The samples that keys name, and where they are mixed their partners in a second row: `[1 or 2, samples]`."""
    rows = [keys.samples] if keys.partners is None else [keys.samples, keys.partners]
    return np.stack([row.cpu().numpy() for row in rows])


def pack_block(
    number: int, step: int, part: int, keys: Keys, rows: Bytes, *, seconds: float = 0.0
) -> tuple[Heads, bytes]:
    """A block's head, `[1]`, and all its bytes, head included; `seconds` is what making them took.

    Raises:
        HeadstartError: A sample's number does not fit into 32 bits.
    """
    numbers = numbers_of(keys)
    if not 0 <= numbers.min() <= numbers.max() < 2**32:
        raise HeadstartError(f"sample {numbers.max()} cannot be cached: numbers of samples go up to {2**32 - 1}")
    microseconds = min(round(seconds * 1e6), 2**32 - 1)
    head = np.array([(HEAD_MAGIC, number, step, part, keys.epoch, len(keys.samples), microseconds, 0)], HEAD)
    content = numbers.astype(_SAMPLE).tobytes() + rows.tobytes()
    head["crc"] = zlib.crc32(content, zlib.crc32(head.tobytes()[:-4]))
    return head, head.tobytes() + content


def block_is_whole(head: Heads, block: Bytes) -> bool:
    """Whether a block's bytes are those that were written, and are the block of this head."""
    told = block[: HEAD.itemsize].tobytes() == head.tobytes()
    return told and zlib.crc32(block[HEAD.itemsize :].data, zlib.crc32(block[: HEAD.itemsize - 4].data)) == int(
        head["crc"]
    )


def pack_footer(heads: Heads) -> bytes:
    """The file's last bytes."""
    table = heads.tobytes()
    return table + FOOTER.pack(FOOTER_MAGIC, len(heads), zlib.crc32(table))


def read_preamble(content: Bytes) -> Header | None:
    """The header at the beginning of a file; None where the file is damaged, or too short for one.

    Raises:
        HeadstartError: The file is something else, or of a newer version.
    """
    if len(content) < PREAMBLE.size:
        return None
    magic, length, crc = PREAMBLE.unpack(content[: PREAMBLE.size].tobytes())
    if magic != PREAMBLE_MAGIC:
        raise HeadstartError("it is no cache of targets")
    text = content[PREAMBLE.size : PREAMBLE.size + length].tobytes()
    if len(text) < length or zlib.crc32(text) != crc:
        return None
    version = json.loads(text).get("version")
    if version != VERSION:
        raise HeadstartError(f"its form has version {version}, and this headstart knows {VERSION}; make it again")
    return Header.model_validate_json(text)


def read_footer(content: Bytes) -> Heads | None:
    """The heads of all blocks; None where the file has no sound footer."""
    if len(content) < FOOTER.size:
        return None
    magic, blocks, crc = FOOTER.unpack(content[-FOOTER.size :].tobytes())
    begin = len(content) - FOOTER.size - blocks * HEAD.itemsize
    if magic != FOOTER_MAGIC or begin < 0:
        return None
    table = content[begin : -FOOTER.size].tobytes()
    return np.frombuffer(table, HEAD) if zlib.crc32(table) == crc else None
