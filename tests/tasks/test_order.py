"""The order of samples: each once an epoch, in equal parts, from seed and step alone; held-out ones counted once."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from headstart.tasks.order import EpochOrder, held_out_batches


def epoch_of(order: EpochOrder, first_step: int) -> list[int]:
    return [index for step in range(first_step, first_step + 4) for index in order.part(step, 5)[0].tolist()]


def test_an_epoch_shows_each_sample_once_and_the_next_in_another_order() -> None:
    order = EpochOrder(20, seed=3)
    first, second = epoch_of(order, 0), epoch_of(order, 4)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert [order.part(step, 5)[1] for step in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]


def test_what_does_not_fill_a_batch_is_left_out() -> None:
    order = EpochOrder(19, seed=0)
    seen = [index for step in range(3) for index in order.part(step, 5)[0].tolist()]
    assert len(set(seen)) == 15 and order.part(3, 5)[1] == 1


def test_only_seed_and_step_matter() -> None:
    order, again = EpochOrder(50, seed=1), EpochOrder(50, seed=1)
    expected = [order.part(step, 10)[0] for step in range(12)]
    for step in (11, 0, 7):
        torch.manual_seed(step)
        assert torch.equal(again.part(step, 10)[0], expected[step])
    assert not torch.equal(EpochOrder(50, seed=2).part(0, 10)[0], expected[0])


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_put_together_are_the_batch(parts: int) -> None:
    order = EpochOrder(50, seed=0)
    pieces = [order.part(7, 10, part, parts)[0] for part in range(parts)]
    assert torch.equal(torch.cat(pieces), order.part(7, 10)[0])


@pytest.mark.parametrize(("samples", "size", "parts"), list(product([1, 5, 12, 61], [1, 4, 50], [1, 2, 3, 8])))
def test_each_held_out_sample_counts_once_and_parts_have_equal_batches(samples: int, size: int, parts: int) -> None:
    dealt = [list(held_out_batches(samples, size, part=part, parts=parts)) for part in range(parts)]
    counted = [index for part in dealt for batch, count in part for index in batch[:count].tolist()]
    assert sorted(counted) == list(range(samples))
    shapes = [[len(batch) for batch, _ in part] for part in dealt]
    assert all(shape == shapes[0] for shape in shapes)
    assert max(shapes[0]) <= size
    assert sum(shapes[0]) * parts < samples + parts


def test_one_part_goes_through_held_out_samples_in_order() -> None:
    assert [(batch.tolist(), count) for batch, count in held_out_batches(5, 2)] == [([0, 1], 2), ([2, 3], 2), ([4], 1)]
