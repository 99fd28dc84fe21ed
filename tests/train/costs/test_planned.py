"""The arithmetic of a plan."""

from __future__ import annotations

import pytest

from headstart.train.costs.planned import Way, named, runs_to_pay, saving_needed, way


@pytest.mark.parametrize(("overhead", "before"), [(0.0, 0.0), (0.33, 0.0), (0.5, 0.1), (0.0, 0.2), (2.0, 0.9)])
def test_a_run_that_saves_as_much_as_it_needs_takes_as_long_as_the_plain_one(overhead: float, before: float) -> None:
    steps = 1 - saving_needed(overhead, before)
    assert before + steps * (1 + overhead) == pytest.approx(1.0)


def test_a_teacher_of_the_students_size_throughout_needs_a_third_more_speed() -> None:
    """The paper's arithmetic: a forward is a third of a step, and g > 1.33 only breaks even."""
    assert 1 / (1 - saving_needed(1 / 3)) == pytest.approx(4 / 3)


def test_what_takes_as_long_as_the_whole_run_cannot_be_saved() -> None:
    assert saving_needed(0.0, before=1.0) >= 1 and saving_needed(0.3, before=1.5) > 1


def test_a_way_from_its_seconds() -> None:
    found = way("init + window 0.5", "window", 120.0, 100.0, before=10.0, own=True)
    assert found.seconds == 130 and found.overhead == pytest.approx(0.3)
    assert found.saving == pytest.approx(1 - 0.9 / 1.2) and found.own


@pytest.mark.parametrize(("once", "runs"), [(0.0, 2), (39.0, 2), (41.0, 3), (100.0, 6)])
def test_a_cache_pays_from_the_run_on_by_which_it_has_saved_its_making(once: float, runs: int) -> None:
    live = Way(name="live", kind="window", seconds=120)
    cached = Way(name="cached", kind="cached", seconds=100, once=once)
    assert runs_to_pay(live, cached) == runs
    assert runs == 2 or (runs - 1) * 20 <= once < runs * 20
    assert runs_to_pay(cached, live) is None


def test_the_recipes_own_way_comes_before_others_and_what_is_refused_does_not_come() -> None:
    ways = [
        Way(name="window 0.3", kind="window", seconds=1),
        Way(name="window 0.4", kind="window", seconds=1, own=True),
        Way(name="cached", kind="cached", seconds=1, refused="mixtures"),
    ]
    found = named(ways, "window")
    assert found is not None and found.name == "window 0.4"
    assert named(ways, "cached") is None and named(ways, "init") is None
