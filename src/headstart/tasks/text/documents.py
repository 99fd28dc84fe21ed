"""Which documents of a corpus are used for what."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from headstart.errors import DataError
from headstart.tasks.places import pick_split
from headstart.tasks.text.config import TextData
from headstart.tasks.text.sources import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 20221101  # of what is the same for every run: the documents held out, and those that train a tokenizer
_BATCH = 256  # documents handed on at once
_LONG = 2_000  # documents; fewer need no progress bar


@dataclass(frozen=True)
class Documents:
    """Some documents of a split.

    Attributes:
        source: The split.
        first: Only so many, from the first on; None: all.
        holdout: How many of these are drawn to be set aside; of a stream the first ones of its first file.
        tuning: How many further ones are.
        part: Those set aside under either name, or the others.
        stream: Whether there are too many to go through: these are only ever read from the first on.
    """

    source: Source
    first: int | None = None
    holdout: int = 0
    tuning: int = 0
    part: Literal["others", "holdout", "tuning"] = "others"
    stream: bool = False

    @property
    def key(self) -> str:
        """Changes when the documents do."""
        # As it was before anything was set aside to tune by, where nothing is: what is in the cache stays there.
        aside = (self.tuning, self.part) if self.tuning else (self.part == "holdout",)
        choices = (self.source.key, self.first, self.holdout, *aside)
        return hashlib.sha256(repr(choices).encode()).hexdigest()[:24]

    @property
    def origin(self) -> str:
        """Where they are from, for messages and reports."""
        if self.part == "others":
            return self.source.origin
        count, purpose = (self.tuning, " to tune by") if self.part == "tuning" else (self.holdout, "")
        return f"{self.source.origin} ({count} documents held out of it{purpose})"

    def batches(self, doing: str) -> Iterator[list[str]]:
        """The documents in their order, with a progress bar that says what is done with them.

        Raises:
            DataError: They cannot be read, or all of them would be held out.
        """
        if not self.stream:
            return self._those(self._chosen(), doing)
        if self.part == "holdout":
            return islice(self.source.batches(_BATCH, shard=0), self.holdout // _BATCH)
        return self.source.batches(_BATCH)

    def sample(self, characters: int) -> list[str]:
        """Documents that together hold about so many characters: drawn from all, of a stream the first ones.

        Raises:
            DataError: As `batches`.
        """
        if self.stream:
            return _until(self.batches(""), characters)
        chosen = self._chosen()
        lengths = [len(text) for texts in self._those(chosen, "reading") for text in texts]
        order = np.random.default_rng(_SEED).permutation(len(lengths))
        enough = int(np.searchsorted(np.array(lengths)[order].cumsum(), characters)) + 1
        drawn = np.zeros_like(chosen)
        drawn[np.flatnonzero(chosen)[order[:enough]]] = True
        return [text for texts in self._those(drawn, "drawing text for the tokenizer") for text in texts]

    def _chosen(self) -> NDArray[np.bool_]:
        """Which documents of the split these are, `[documents]`; those that come after are left out."""
        count = min(self.source.count(), self.first or sys.maxsize)
        aside = self.holdout + self.tuning
        if aside >= count:
            told = f"data.holdout={self.holdout}" + (f" and data.tuning={self.tuning}" if self.tuning else "")
            verb = "leave" if self.tuning else "leaves"
            raise DataError(f"{self.source.origin}: {count} documents, and {told} {verb} none of them")
        order = np.random.default_rng(_SEED).permutation(count) if aside else np.arange(count)
        parts = {"holdout": order[: self.holdout], "tuning": order[self.holdout : aside], "others": order[aside:]}
        chosen = np.zeros(count, dtype=bool)
        chosen[parts[self.part]] = True
        return chosen

    def _those(self, chosen: NDArray[np.bool_], doing: str) -> Iterator[list[str]]:
        begins = range(0, len(chosen), _BATCH)
        batches = zip(begins, self.source.batches(_BATCH), strict=False)
        console = Console(stderr=True)
        for begin, texts in track(
            batches, doing, len(begins), console=console, disable=len(chosen) < _LONG, transient=True
        ):
            yield [text for text, wanted in zip(texts, chosen[begin : begin + _BATCH], strict=False) if wanted]


def choose_documents(data: TextData, splits: Mapping[str, Source]) -> tuple[Documents, Documents]:
    """Choose what to train on and what to judge by.

    Raises:
        DataError: A split is missing, or settings do not go together.
    """
    source = source_of_train = pick_split(splits, "train", data.name)[1]
    if data.streaming and (data.documents or data.tuning):
        raise DataError("data.documents and data.tuning count documents, which data.streaming does not; leave them out")
    if data.streaming and data.holdout % _BATCH:
        raise DataError(
            f"data.holdout={data.holdout}: of a stream the first documents of its first file are set aside, {_BATCH} "
            "at a time; give a multiple of that"
        )
    train = Documents(source, data.documents, data.holdout, data.tuning, stream=data.streaming)
    if data.streaming and data.holdout:
        train = replace(train, source=replace(source, skip=data.holdout))
    if data.evaluate == "tuning":
        if not data.tuning:
            raise DataError(
                "data.evaluate=tuning needs data.tuning above 0: the number of training documents to set aside"
            )
        return train, replace(train, part="tuning")
    if data.evaluate in splits or "validation" in splits:
        _, source, note = pick_split(splits, data.evaluate, data.name)
        return train, Documents(replace(source, origin=source.origin + note), stream=data.streaming)
    if data.holdout:
        return train, replace(train, source=source_of_train, part="holdout")
    raise DataError(
        f"{data.name} has no {data.evaluate} split to judge on, only {', '.join(splits)}; set data.holdout to a number "
        "of training documents to set aside for that"
    )


def _until(batches: Iterator[list[str]], characters: int) -> list[str]:
    texts: list[str] = []
    for batch in batches:
        for text in batch:
            texts.append(text)
            characters -= len(text)
            if characters <= 0:
                return texts
    return texts
