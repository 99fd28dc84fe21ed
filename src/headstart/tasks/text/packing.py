"""Documents cut into sequences of one length, kept as a memory-mapped Arrow file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from headstart.errors import DataError
from headstart.files import atomic_file
from headstart.tasks.text.tokenizer import for_packing
from headstart.tasks.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

_METADATA = b"headstart"


@dataclass(frozen=True)
class Counts:
    """What was packed: documents with text, documents without, and tokens, special ones left out.

    Attributes:
        bytes: Of their text in UTF-8, where they are counted.
    """

    documents: int = 0
    empty: int = 0
    tokens: int = 0
    bytes: int | None = None

    def __add__(self, more: Counts) -> Counts:
        counted = None if more.bytes is None else (self.bytes or 0) + more.bytes
        return Counts(self.documents + more.documents, self.empty + more.empty, self.tokens + more.tokens, counted)

    def describe(self) -> dict[str, int]:
        """The numbers that there are; JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class TextPacker(Protocol):
    """What turns texts into sequences of one length.

    Attributes:
        length: Tokens of a sequence.
        dtype: Of tokens on the disk.
        key: Changes when the sequences of a text do.
    """

    length: int
    dtype: np.dtype[Any]
    key: str

    def pack(
        self, texts: Sequence[str], before: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], Counts]:
        """Pack some documents.

        Args:
            texts: The documents; those without text are left out.
            before: Tokens left over from documents before these.

        Returns:
            Sequences `[n, length]`, the tokens left over, and what was packed.
        """
        ...  # pragma: no cover

    def knows(self, rows: NDArray[Any]) -> bool:
        """Whether sequences hold a token that is not special, as unknown ones are too."""
        ...  # pragma: no cover


class Packer:
    """Turns texts into sequences `[CLS] ... [SEP]` without padding: document after document, `[SEP]` between them.

    A sequence may hold the end of one document and the beginning of the next, and a long document fills several.

    Args:
        tokenizer: With `[CLS]` and `[SEP]`, whatever their names.
        length: Tokens of a sequence, these two included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int) -> None:
        self.length = length
        vocabulary = read_vocabulary(tokenizer)
        self.dtype = token_dtype(vocabulary.size)
        self.key = f"{vocabulary.fingerprint}-{length}"
        """Changes when the sequences of a text do."""
        self._tokenizer = for_packing(tokenizer)
        self._cls, self._sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._special = tokenizer.all_special_ids

    def pack(
        self, texts: Sequence[str], before: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], Counts]:
        """As in `TextPacker`."""
        filled = [text for text in texts if text.strip()]
        encoded = self._tokenizer.encode_batch_fast(filled, add_special_tokens=False)
        pieces = [] if before is None else [before]
        pieces += [np.array([*document.ids, self._sep], self.dtype) for document in encoded]
        stream = np.concatenate(pieces) if pieces else np.empty(0, self.dtype)
        body = self.length - 2
        count = len(stream) // body
        rows = np.empty((count, self.length), self.dtype)
        rows[:, 0], rows[:, -1] = self._cls, self._sep
        rows[:, 1:-1] = stream[: count * body].reshape(count, body)
        counts = Counts(len(filled), len(texts) - len(filled), sum(map(len, encoded)))
        return rows, stream[count * body :], counts

    def knows(self, rows: NDArray[Any]) -> bool:
        """Whether sequences hold a token that can be hidden: one that is not special, as unknown ones are too."""
        return not bool(np.isin(rows, self._special).all())


def token_dtype(tokens: int) -> np.dtype[Any]:
    """What holds the numbers of so many tokens: 16 bits, in half the space and time of 32, where that suffices."""
    return np.dtype(np.uint16 if tokens <= 1 << 16 else np.uint32)


class Sequences(Protocol):
    """Sequences by number: all at hand, or read when they are asked for."""

    def __len__(self) -> int:
        """Number of sequences."""
        ...  # pragma: no cover

    def rows(self, indices: Tensor) -> Tensor:
        """The tokens of some sequences: `[n, length]` of int64 for `[n]` numbers of int64, on the CPU."""
        ...  # pragma: no cover

    def describe(self) -> dict[str, int]:
        """How many there are, and of what; JSON."""
        ...  # pragma: no cover


class PackedSequences:
    """Sequences in a file that `write_packed` has written; read from the disk as they are asked for.

    Args:
        path: The file, an Arrow stream of one batch, which `datasets.Dataset.from_file` reads too.

    Raises:
        ValueError: It is broken (OSError: it cannot be read).
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            (batch,) = reader
            self.counts = Counts(**json.loads(reader.schema.metadata[_METADATA]))
        column = batch.column("input_ids")
        self._rows: NDArray[Any] = column.values.to_numpy().reshape(len(column), column.type.list_size)

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self._rows)

    def describe(self) -> dict[str, int]:
        """What was packed, and how many sequences that gave."""
        return {"sequences": len(self), **self.counts.describe()}

    def rows(self, indices: Tensor) -> Tensor:
        """The tokens of some sequences.

        Args:
            indices: `[n]` of int64, on the CPU.

        Returns:
            `[n, length]` of int64.
        """
        return torch.from_numpy(self._rows[indices.numpy()].astype(np.int64))


def write_packed(
    path: Path, batches: Iterable[Sequence[str]], packer: TextPacker, origin: str, *, most: int | None = None
) -> None:
    """Pack documents into a file, which appears as a whole or not at all.

    Args:
        path: The file to write.
        batches: The documents.
        packer: Makes the sequences.
        origin: Where the documents come from, for messages.
        most: Stop at so many sequences.

    Raises:
        DataError: There is not enough text for one sequence, or none that the tokenizer knows.
        OSError: The file cannot be written.
    """
    # Arrow wants to know the number of sequences first, and memory may not hold them all.
    with TemporaryFile(dir=path.parent) as spool:
        counts, known = _spool(spool, batches, packer, most)
        if not spool.tell():
            raise DataError(
                f"{origin}: {counts.documents} documents with text and {counts.empty} empty ones hold {counts.tokens} "
                f"tokens, which do not fill one sequence; give more text, or less than data.length={packer.length}"
            )
        if not known:
            raise DataError(
                f"{origin}: its {counts.tokens} tokens are all unknown to the tokenizer, so there is nothing to "
                "predict; take a tokenizer of its language (data.tokenizer)"
            )
        with atomic_file(path) as file:
            _write_arrow(file, spool, packer, counts)


def _spool(
    spool: IO[bytes], batches: Iterable[Sequence[str]], packer: TextPacker, most: int | None
) -> tuple[Counts, bool]:
    """Write the sequences one after the other; tells what was packed, and whether any of it is known."""
    counts, written, left_over, known = Counts(), 0, None, False
    for texts in batches:
        rows, left_over, more = packer.pack(texts, left_over)
        rows = rows if most is None else rows[: most - written]
        spool.write(rows.data)
        counts, written = counts + more, written + len(rows)
        known = known or packer.knows(rows)
        if written == most:
            break
    return counts, known


def _write_arrow(file: IO[bytes], spool: IO[bytes], packer: TextPacker, counts: Counts) -> None:
    import pyarrow as pa

    spool.flush()
    values = pa.array(np.memmap(spool, packer.dtype, mode="r"))
    column = pa.FixedSizeListArray.from_arrays(values, packer.length)
    schema = pa.schema([("input_ids", column.type)], metadata={_METADATA: json.dumps(counts.describe())})
    with pa.ipc.new_stream(file, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
