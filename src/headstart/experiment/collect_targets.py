"""Targets of foreign files, each record put to the sequence it is of, and judged together once all are there."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.cache import target_of_logprobs
from headstart.cache.alignment import Alignment
from headstart.cache.foreign import TokenOf, Told, read_told
from headstart.cache.renormalised import Sums
from headstart.errors import TeacherError
from headstart.tasks.text import CausalLM

logger = logging.getLogger(__name__)

Rows = Mapping[int, NDArray[np.int64]]

# Places that list fewer than half as many classes as usual are a mistake where they are so few; all others would be cut
# to the same number for them.
_FEW = 0.05


class _Fewest(NamedTuple):
    classes: int
    sample: int
    place: int
    where: str


class Collector:
    """Reads files, and keeps of each sequence the classes and log-probabilities of its places.

    Args:
        task: The recipe's.
        rows: The sequences that targets are wanted of, by sample.
        wanted: What they are, for messages: "24 sequences of the text".

    Attributes:
        found: By sample, classes and log-probabilities of each place, `[length - 1, k]`, the most probable first.
    """

    def __init__(self, task: CausalLM, rows: Rows, wanted: str) -> None:
        self._task, self._rows, self._wanted = task, rows, wanted
        self.found: dict[int, tuple[Tensor, Tensor]] = {}
        self._by_tokens: defaultdict[bytes, list[int]] = defaultdict(list)
        for sample, row in rows.items():
            self._by_tokens[row.tobytes()].append(sample)
        self._token_of = _by_text(task)
        self._alignments: dict[str, Alignment] = {"": Alignment(task.num_classes)}
        self._sums = Sums(task.num_classes)
        self._counts: Counter[int] = Counter()
        self._fewest: _Fewest | None = None

    def read(self, file: str | Path) -> None:
        """Take what a file tells of these sequences; what it tells of others is passed over.

        Raises:
            TeacherError: It cannot be read, or a record is not of this text or holds no log-probabilities.
        """
        self._alignments[str(file)] = Alignment(self._task.num_classes)
        for told in read_told(file, self._token_of):
            samples = self._samples_of(told)
            if samples:
                target = self._target(told, samples[0], str(file))
                self.found |= dict.fromkeys(samples, target)

    def judge(self, files: str) -> int:
        """Judge what all files together told, once nothing is missing.

        Args:
            files: Their names, for messages.

        Returns:
            As many classes as are there of every place.

        Raises:
            TeacherError: The targets seem to stand one place off, were made to sum to 1, or a few places have so few
                classes that all others would lose theirs.
        """
        for file, alignment in reversed(self._alignments.items()):  # one file may be off and another not
            if complaint := alignment.complaint():
                raise TeacherError(f"{file or files}: {complaint}")
        self._judge_sums(files)
        return self._judge_counts(files)

    def _samples_of(self, told: Told) -> list[int]:
        """The samples that are wanted and that a record is of: several, where a text occurs several times."""
        if told.tokens is None:
            raise TeacherError(
                f"{told.where}: does not tell the tokens that it is of, so nobody can see whether it is of this text; "
                "add `input_ids`, as headstart cache RECIPE --prompts FILE has them"
            )
        given = np.array(told.tokens, dtype=np.int64)
        if told.sample is None:
            samples = self._by_tokens.get(given.tobytes())
            if not samples:
                raise TeacherError(
                    f"{told.where}: its {len(given)} tokens are none of the {self._wanted}; the text was cut in "
                    "another way, or with another tokenizer"
                )
            return samples
        row = self._rows.get(told.sample)
        if row is None:
            return []
        _check_tokens(told, given, row, self._task)
        return [told.sample]

    def _target(self, told: Told, sample: int, file: str) -> tuple[Tensor, Tensor]:
        length = self._task.data.length - 1
        if len(told.following) != length:
            raise TeacherError(
                f"{told.where}: tells what follows {len(told.following)} places, and a sequence has {length}"
            )
        counts = [len(ids) for ids, _ in told.following]
        if not min(counts) or any(len(ids) != len(values) for ids, values in told.following):
            raise TeacherError(f"{told.where}: a place has no log-probabilities, or not one for each class")
        # Of all classes the last one is what is left, and so needs no entry.
        count = min(*counts, self._task.num_classes - 1)
        ids, values = _ordered(told, max(counts))
        target = ids[:, :count].clone(), values[:, :count].clone()
        target_of_logprobs(*target, classes=self._task.num_classes, where=told.where)
        self._reckon(told, counts, sample)
        if not told.complete:
            self._sums.add(told.where, values)
        for name in ("", file):
            self._alignments[name].add(torch.tensor(told.tokens), *target)
        return target

    def _reckon(self, told: Told, counts: Sequence[int], sample: int) -> None:
        self._counts.update(counts)
        if self._fewest is None or min(counts) < self._fewest.classes:
            self._fewest = _Fewest(min(counts), sample, counts.index(min(counts)), told.where)

    def _judge_sums(self, files: str) -> None:
        sums = self._sums
        if not sums.whole:
            return
        found = (
            f"at {sums.whole} of {sums.told} places the probabilities sum to 1 though not all classes are listed "
            f"({sums.first} the first, {sums.sequences} sequences wholly)"
        )
        if sums.refused:
            raise TeacherError(
                f"{files}: {found}, so that somebody has divided by their sum (axolotl does in the data it prepares, "
                "and has changed their temperature where its kd_temperature is not 1): what the teacher gave to all "
                "other tokens is lost, and the student would be taught that they never come. Import what the server "
                "answered; if the teacher never gives other tokens, say so in each record by complete: true"
            )
        logger.warning("%s: %s; the student is taught that all other tokens never come there", files, found)

    def _judge_counts(self, files: str) -> int:
        assert self._fewest is not None
        least = self._fewest
        usual, places = _median(self._counts), self._counts.total()
        fewer = sum(number for count, number in self._counts.items() if count < usual)
        found = (
            f"{files}: {fewer} of {places} places list fewer than the usual {usual} classes; the fewest, "
            f"{least.classes}, place {least.place} of sample {least.sample} ({least.where})"
        )
        far = sum(number for count, number in self._counts.items() if 2 * count < usual)
        if 0 < far <= _FEW * places:
            raise TeacherError(
                f"{found}. All places would have to keep as few, so ask for such sequences again. If {least.classes} "
                "is what you want, cut the lists of all places to it"
            )
        kept = min(least.classes, self._task.num_classes - 1)
        if least.classes < usual - 1:  # servers list the text's own token beside the k most probable ones
            logger.warning("%s. Only the %d most probable are kept of every place", found, kept)
        else:
            logger.info("%s: the %d most probable classes of each place are kept", files, kept)
        return kept


def _check_tokens(told: Told, given: NDArray[np.int64], row: NDArray[np.int64], task: CausalLM) -> None:
    if len(given) != len(row):
        raise TeacherError(f"{told.where}: has {len(given)} tokens, and sample {told.sample} has {len(row)}")
    if (different := np.flatnonzero(given != row)).size:
        place, decode = int(different[0]), task.corpus.tokenizer.decode
        there, here = (f"{int(one[place])} ({decode([int(one[place])])!r})" for one in (given, row))
        raise TeacherError(
            f"{told.where}: token {place} of sample {told.sample} is {there} there and {here} in the text; these "
            "targets are of another text, or made with another tokenizer"
        )


def _ordered(told: Told, width: int) -> tuple[Tensor, Tensor]:
    """The most probable first, `[places, width]`; a place that lists fewer is filled up with class 0 at -inf."""
    ordered = [sorted(zip(values, ids, strict=True), reverse=True) for ids, values in told.following]
    filled = [place + [(-torch.inf, 0)] * (width - len(place)) for place in ordered]
    ids = torch.tensor([[int(token) for _, token in place] for place in filled])
    return ids, torch.tensor([[float(value) for value, _ in place] for place in filled])


def _median(counts: Counter[int]) -> int:
    """Of whole numbers that occur so often."""
    half, seen = counts.total() / 2, 0
    for count in sorted(counts):
        seen += counts[count]
        if seen >= half:
            return count
    raise ValueError("nothing was counted")


def _by_text(task: CausalLM) -> TokenOf:
    """Finds a token by the text that it stands for, where no other one has that text."""
    table: dict[str, int | None] = {}

    def token_of(text: str) -> int | None:
        if not table:
            for number in range(task.num_classes):
                spoken = str(task.corpus.tokenizer.decode([number], clean_up_tokenization_spaces=False))
                table[spoken] = None if spoken in table else number
        return table.get(text)

    return token_of
