"""Tokens and batches: nothing lost, nothing seen twice, padded as transformers pads."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headstart.tasks.glue import GLUE_TASKS
from headstart.tasks.glue.batches import evaluation_batches, padded, training_batches
from headstart.tasks.glue.checkpoint import Checkpoint, open_checkpoint
from headstart.tasks.glue.data import TextSet, find_data
from headstart.tasks.glue.tokens import TokenSet, tokenize
from tests.tasks.glue.tiny import write_checkpoint, write_task

LENGTHS = np.random.default_rng(0).geometric(0.1, size=1003) + 2
CPU = torch.device("cpu")


def rows(count: int, *, seed: int = 0, size: int = 16) -> list[NDArray[np.int64]]:
    return list(islice(training_batches(LENGTHS, size, seed=seed), count))


def test_every_epoch_sees_each_sample_once_in_another_order() -> None:
    first, second = rows(126)[:63], rows(126)[63:]
    for epoch in (first, second):
        assert sorted(map(len, epoch)) == [11] + [16] * 62
        assert np.array_equal(np.sort(np.concatenate(epoch)), np.arange(1003))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_the_order_follows_from_the_seed() -> None:
    again, other = rows(80), rows(80, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(rows(80), again, strict=True))
    assert not np.array_equal(np.concatenate(again), np.concatenate(other))


def test_eight_batches_hold_a_random_sample_cut_by_length() -> None:
    pools = [rows(56)[begin : begin + 8] for begin in range(0, 56, 8)]
    for pool in pools:
        ordered = sorted(pool, key=lambda batch: LENGTHS[batch].min())
        ends = [(LENGTHS[batch].min(), LENGTHS[batch].max()) for batch in ordered]
        assert all(before[1] <= after[0] for before, after in pairwise(ends))
    # Each pool of 128 of the 1003 is a fair sample: its mean length lies within 4 standard errors.
    error = LENGTHS.std() / 128**0.5
    assert all(abs(LENGTHS[np.concatenate(pool)].mean() - LENGTHS.mean()) < 4 * error for pool in pools)
    # The shortest of a pool are not always the first.
    assert len({int(np.argmin([LENGTHS[batch].min() for batch in pool])) for pool in pools}) > 2


def test_batches_of_like_lengths_need_far_less_padding() -> None:
    order = np.random.default_rng(0).permutation(1003)
    random = [order[begin : begin + 16] for begin in range(0, 1003, 16)]
    tokens = [sum(len(batch) * LENGTHS[batch].max() for batch in batches) for batches in (rows(63), random)]
    assert tokens[0] < 0.6 * tokens[1]
    assert tokens[0] < 1.5 * LENGTHS.sum()


def test_evaluation_covers_each_sample_once() -> None:
    assert np.array_equal(np.sort(np.concatenate(evaluation_batches(LENGTHS, 64))), np.arange(1003))


@pytest.fixture
def opened(checkpoint: Path) -> Checkpoint:
    return open_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["sst2", "stsb"])
def test_inputs_are_those_of_transformers_own_tokenizer(name: str, opened: Checkpoint, data: Path) -> None:
    write_task(data, name)
    texts = find_data(GLUE_TASKS[name]).read("train")
    tokens = tokenize(opened, texts)
    chosen = np.array([7, 0, 39, 12])
    expected = opened.tokenizer(
        *[[column[row] for row in chosen] for column in texts.texts],
        padding=True,
        truncation=True,
        max_length=opened.max_length,
        return_token_type_ids=True,
        return_tensors="pt",
    )
    inputs = padded(tokens, chosen, padding=opened.padding, device=CPU)
    assert set(inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(torch.equal(inputs[key], expected[key]) for key in inputs)
    assert (inputs["attention_mask"] == 0).any()
    assert bool(inputs["token_type_ids"].any()) == (name == "stsb")


def test_long_inputs_are_cut_to_the_models_positions(opened: Checkpoint) -> None:
    texts = TextSet((["film " * 90, "fine"], ["plot " * 5, "dull"]), np.array([0, 1]), "made up")
    tokens = tokenize(opened, texts)
    assert tokens.lengths.tolist() == [24, 5] == [opened.max_length, 5]
    # The longer text of the pair is the one that is cut: [CLS] 16 [SEP] 5 [SEP].
    assert tokens.types is not None and tokens.types[:24].sum() == 6


def test_a_model_without_token_types_gets_none(tmp_path: Path, data: Path) -> None:
    opened = open_checkpoint(write_checkpoint(tmp_path / "distilbert", "distilbert"))
    write_task(data, "rte")
    tokens = tokenize(opened, find_data(GLUE_TASKS["rte"]).read("train"))
    assert tokens.types is None
    assert set(padded(tokens, np.array([0]), padding=0, device=CPU)) == {"input_ids", "attention_mask"}


class TestCache:
    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    @pytest.fixture
    def texts(self, data: Path) -> TextSet:
        write_task(data, "stsb")
        return find_data(GLUE_TASKS["stsb"]).read("train")

    def check(self, tokens: TokenSet, expected: TokenSet) -> None:
        assert np.array_equal(tokens.ids, expected.ids) and np.array_equal(tokens.lengths, expected.lengths)
        assert np.array_equal(tokens.labels, expected.labels)

    def test_texts_are_tokenised_once(self, texts: TextSet, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = tokenize(open_checkpoint(checkpoint), texts)

        def fail(*_: object) -> None:
            raise AssertionError("tokenised again")

        monkeypatch.setattr("headstart.tasks.glue.tokens._tokens", fail)
        self.check(tokenize(open_checkpoint(checkpoint), texts), first)

    def test_other_texts_and_another_tokenizer_are_not_mixed_up(
        self, texts: TextSet, opened: Checkpoint, tmp_path: Path, own_cache: Path
    ) -> None:
        tokenize(opened, texts)
        # The same characters, divided otherwise between the rows.
        first, second, *others = texts.texts[0]
        moved = TextSet(([first + second[:2], second[2:], *others], texts.texts[1]), texts.labels, "made up")
        tokenize(opened, moved)
        tokenize(open_checkpoint(write_checkpoint(tmp_path / "short", max_position_embeddings=8)), texts)
        assert len(list(own_cache.glob("glue/*.safetensors"))) == 3

    def test_a_broken_file_is_made_again(self, texts: TextSet, opened: Checkpoint, own_cache: Path) -> None:
        first = tokenize(opened, texts)
        (kept,) = own_cache.glob("glue/*.safetensors")
        kept.write_bytes(b"broken")
        self.check(tokenize(opened, texts), first)
        assert kept.read_bytes() != b"broken"

    def test_without_a_place_for_the_cache_it_goes_on(
        self, texts: TextSet, opened: Checkpoint, own_cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        own_cache.write_text("a file, not a folder")
        assert len(tokenize(opened, texts).labels) == 40
        assert "will be made again next time" in caplog.text
