"""Targets from a function of one's own: written as ours are, read back as they were given, and all alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headstart.cache import CachedTeacher, fingerprint, target_of_logprobs, write
from headstart.cache.reader import CacheFile
from headstart.distill.targets.sparse import TopK
from headstart.errors import HeadstartError, TeacherError
from headstart.tasks import Batch
from tests.cache.toy import CLASSES, DATA, Toy, keys_of, toy_batches, toy_teacher

K = 3


def given(batch: Batch, *, k: int = K) -> TopK:
    """What the toy's teacher finds most probable."""
    values, ids = toy_teacher().logits(batch.inputs).log_softmax(-1).topk(k)
    return target_of_logprobs(ids, values, classes=CLASSES)


@pytest.mark.parametrize("rows", [1, 2])
def test_it_comes_back_as_it_was_given(rows: int, tmp_path: Path) -> None:
    batches = toy_batches(Toy(rows=rows))
    path = write(tmp_path, "mine", batches, given, data=DATA)
    header = CacheFile(path).header
    assert (header.rows_per_sample, header.batch_size, header.rows.classes) == (rows, 4, CLASSES)
    reader = CachedTeacher(tmp_path, "mine", expected=fingerprint(None, batches.task, DATA))
    for step in (5, 0, 3):
        batch = batches.batch(step, 0)
        found, right = reader.targets(None, keys_of(batch)), given(batch)
        assert isinstance(found, TopK) and torch.equal(found.indices, right.indices)
        probabilities: list[Tensor] = [one.logits.float().softmax(-1) for one in (found, right)]
        torch.testing.assert_close(*probabilities, rtol=0, atol=1e-3)


def test_what_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def give(batch: Batch) -> TopK:
        asked.append(len(asked))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return given(batch)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "mine", toy_batches(), give, data=DATA)
    path = write(tmp_path, "mine", toy_batches(), give, data=DATA)
    assert len(asked) == 4 + 1 + 3  # the first tells the form each time; three of six were there
    whole = write(tmp_path / "whole", "mine", toy_batches(), given, data=DATA)
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: given(batch, k=2), r"batch 1 has a target of .* = \(4, 2, 1.0, 7\), and the first had \(4, 3"),
        (lambda batch: given(batch).part(slice(0, 3)), r"= \(3, 3, 1.0, 7\), and the first had"),
    ],
)
def test_targets_that_are_not_alike_are_refused(change: Callable[[Batch], TopK], message: str, tmp_path: Path) -> None:
    first = toy_batches().batch(0, 0).samples

    def give(batch: Batch) -> TopK:
        return given(batch) if torch.equal(batch.samples, first) else change(batch)

    with pytest.raises(TeacherError, match=message):
        write(tmp_path, "mine", toy_batches(), give, data=DATA)


def test_rows_that_do_not_divide_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="mine: 3 rows for 4 samples; give the same number for each"):
        write(tmp_path, "mine", toy_batches(), lambda batch: given(batch).part(slice(0, 3)), data=DATA)
    with pytest.raises(HeadstartError, match="nothing to cache: the run distils on no step"):
        write(tmp_path, "mine", toy_batches(steps=0), given, data=DATA)


@pytest.mark.parametrize(
    ("ids", "logprobs", "message"),
    [
        ([[0, 1]], [[-1.0]], r"classes of shape \(1, 2\) and log-probabilities of \(1, 1\)"),
        ([[0, 1, 2, 3]], [[-2.0] * 4], r"4 log-probabilities a row, of 4 classes; give from 1 to 3"),
        ([[0, -1]], [[-1.0, -2.0]], r"row 0: class -1 is none of the 4"),
        ([[0, 1], [2, 2]], [[-1.0, -2.0]] * 2, r"row 1: a class stands there twice"),
        ([[0]], [[0.001]], r"they look like probabilities"),
        ([[0, 1]], [[-0.1, -0.1]], r"they look like logits, or of no softmax"),
    ],
)
def test_numbers_that_are_no_log_probabilities_are_refused(ids: Any, logprobs: Any, message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        target_of_logprobs(torch.tensor(ids), torch.tensor(logprobs), classes=4)


def test_rounding_of_a_server_is_no_mistake() -> None:
    target = target_of_logprobs(torch.tensor([[0, 1]]), torch.tensor([[-0.5101, -0.9160]]), classes=4)  # 1.0006 in all
    assert target.logits.isfinite().all() and float(target.logits[0, -1]) < -20
