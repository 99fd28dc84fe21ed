"""The formulas by which entries, heads and layers are picked."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from headstart.init.families.family import Heads
from headstart.init.picking.depth import layers
from headstart.init.picking.heads import pick_heads
from headstart.init.picking.picks import beside, choose, spaced, tiled, times, whole

SIZES = st.integers(1, 60)


@given(SIZES, SIZES)
def test_spaced_entries_are_in_order_and_spread_over_all(source: int, student: int) -> None:
    source, student = max(source, student), min(source, student)
    index = spaced(source, student)
    steps = index.diff()
    assert index[0] == 0 and index[-1] < source and bool((steps > 0).all())
    assert len(index) == student and (student < 2 or int(steps.max() - steps.min()) <= 1)


@given(SIZES, SIZES)
def test_tiled_entries_are_all_there_about_equally_often(source: int, student: int) -> None:
    source, student = min(source, student), max(source, student)
    counts = torch.bincount(tiled(source, student), minlength=source)
    assert int(counts.sum()) == student and int(counts.max() - counts.min()) <= 1


@given(SIZES, SIZES)
def test_what_reads_copies_gets_what_one_gave(source: int, student: int) -> None:
    pick = choose(source, max(source, student))
    values = torch.randn(source, dtype=torch.float64)
    assert torch.allclose((values[pick.index] / pick.copies).sum(), values.sum())


GROUPS = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(GROUPS, GROUPS)
def test_heads_stay_with_the_keys_that_they_look_at(source: tuple[int, int], student: tuple[int, int]) -> None:
    """Where both numbers grow or both shrink, and where groups split into whole ones."""
    (groups, each), (new_groups, new_each) = source, student
    opposite = (groups - new_groups) * (each - new_each) < 0
    if opposite and not (new_groups > groups and new_groups % groups == 0):
        return
    old, new = Heads(groups * each, groups, 4), Heads(new_groups * new_each, new_groups, 4)
    keys, queries = pick_heads(old, new)
    for place, head in enumerate(queries.index.tolist()):
        assert head // each == keys.index[place // new_each]


def test_scores_keep_the_best_in_their_order() -> None:
    assert choose(5, 3, scores=torch.tensor([1.0, 5, 2, 4, 3])).index.tolist() == [1, 3, 4]


def test_axes_of_parts_and_axes_in_axes() -> None:
    two = choose(4, 2)
    assert times(two, whole(3)).index.tolist() == [0, 1, 2, 6, 7, 8]
    assert beside([two, two, whole(3)]).index.tolist() == [0, 2, 4, 6, 8, 9, 10]
    assert (beside([two, whole(3)]).size, beside([two, whole(3)]).what) == (7, "selected")


@given(st.integers(1, 40), st.integers(1, 40))
def test_layers_are_in_order_from_the_first(source: int, student: int) -> None:
    chosen = [layer for layer in layers(source, student) if layer is not None]
    assert chosen[0] == 0 and len(chosen) == student
    if student <= source:
        assert chosen == sorted(set(chosen)) and (student == 1 or chosen[-1] == source - 1)
    else:
        assert chosen == [layer % source for layer in range(student)]


@given(st.integers(2, 12), st.integers(1, 12), st.integers(1, 4))
def test_layers_of_the_right_kind_are_preferred(source: int, student: int, every: int) -> None:
    student = min(source - 1, student)
    old = ["all" if layer % every == 0 else "window" for layer in range(source)]
    new = ["all" if layer % every == 0 else "window" for layer in range(student)]
    chosen = [layer for layer in layers(source, student, kinds=(old, new)) if layer is not None]
    assert chosen == sorted(set(chosen)) and [old[layer] for layer in chosen] == new
