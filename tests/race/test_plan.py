"""What may be raced, in which order, and where it lives."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headstart.errors import RaceError
from headstart.race import Run, interleaved, run_folder, run_name, time_left
from headstart.race.plan import plan_race
from headstart.records import Arm, RunRecord


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"arms": []}, "no arms; give at least two"),
        ({"arms": "a,b"}, "arms='a,b' is one name; give a list"),
        ({"arms": ["a"]}, "only one arm, 'a'; give one more"),
        ({"arms": ["a", "b", "a"]}, "arm 'a' is there twice"),
        ({"arms": ["a", "b", "A"]}, "arm 'A' is there twice"),
        ({"arms": ["a", " "]}, "an arm has an empty name"),
        ({"arms": ["a", "x" * 300]}, "too long for a folder"),
        ({"budgets": []}, "no budgets"),
        ({"budgets": [1, 0]}, "budget 0 is no length of training; give a number above 0"),
        ({"budgets": [-2.5]}, "budget -2.5 is no length of training"),
        ({"budgets": [math.inf]}, "budget inf is no length"),
        ({"budgets": [math.nan]}, "budget nan is no length"),
        ({"budgets": [2, 2.0]}, "budget 2.0 is there twice"),
        ({"seeds": []}, "no seeds; give at least one, better three"),
        ({"seeds": [0, 1, 0]}, "seed 0 is there twice"),
        ({"seeds": [0.5]}, "seed 0.5 is no whole number"),
        ({"baseline": "c"}, r"baseline 'c' is not among the arms \(a, b\)"),
        ({"primary": "c"}, r"primary 'c' is not among the arms \(a, b\)"),
        ({"primary": "a"}, "'a' is both baseline and primary arm"),
        ({"arms": ["a", Arm(name="b", budgets=[2])]}, r"budgets \[2.0\] of arm 'b' must be some of the race's: \[1\]"),
        ({"arms": ["a", Arm(name="b", budgets=[])]}, r"budgets \[\] of arm 'b' must be some"),
        ({"arms": ["a", Arm(name="b", seeds=[4])]}, r"seeds \[4\] of arm 'b' must be some of the race's: \[0\]"),
    ],
)
def test_bad_input(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RaceError, match=message):
        plan_race(**{"arms": ["a", "b"], "budgets": [1], "seeds": [0], **wrong})


def test_defaults() -> None:
    plan = plan_race(["a", Arm(name="b", overrides={"lr": 1})], [4, 1, 2], [7, 3])
    assert (plan.baseline, plan.primary, plan.budgets, plan.seeds) == ("a", "b", (1, 2, 4), (7, 3))
    assert plan_race(["a", "b"], [1], [0], baseline="b").primary == "a"


def test_an_arm_may_have_some_of_the_budgets_only() -> None:
    runs = plan_race(["a", Arm(name="b", budgets=[2])], [1, 2, 4], [0]).runs
    assert sorted(runs) == [("a", 1, 0), ("a", 2, 0), ("a", 4, 0), ("b", 2, 0)]


def test_an_arm_may_have_some_of_the_seeds_only() -> None:
    runs = plan_race(["a", Arm(name="b", seeds=[3])], [1, 2], [0, 3]).runs
    assert sorted(runs) == [("a", 1, 0), ("a", 1, 3), ("a", 2, 0), ("a", 2, 3), ("b", 1, 3), ("b", 2, 3)]


def test_order_pairs_the_arms_and_turns_them_around() -> None:
    arms, budgets, seeds = ["A", "B", "C"], [4, 1, 2], [5, 3]
    order = interleaved(arms, budgets, seeds)
    assert Counter(order) == Counter(Run(*run) for run in itertools.product(arms, budgets, seeds))
    blocks = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert [(block[0].seed, block[0].budget) for block in blocks] == [(s, b) for s in seeds for b in (1, 2, 4)]
    for block in blocks:
        assert len({(run.seed, run.budget) for run in block}) == 1
    assert ["".join(run.arm for run in block) for block in blocks] == ["ABC", "CBA", "ABC", "CBA", "ABC", "CBA"]


def test_each_budget_sees_both_orders() -> None:
    first = {(run.budget, run.seed): run.arm for run in reversed(interleaved(["A", "B"], [1, 2], [0, 1]))}
    assert {first[1, 0], first[1, 1]} == {first[2, 0], first[2, 1]} == {"A", "B"}


def test_run_names_are_unambiguous_file_names() -> None:
    arms = ["a", "a-b1", "a/b", "a b", "..", "a%2Fb", "é", "a-b1-s0", "T=4"]
    budgets, seeds = [1.0, 0.1, 1e20, 1e-7, 123456789.0, 1 / 3, 11.0], [0, 1, 10, -1]
    names = [run_name(*run) for run in itertools.product(arms, budgets, seeds)]
    assert len(set(names)) == len(names)
    for name in names:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>| ')
        assert name not in (".", "..")


def test_run_folder_does_not_depend_on_how_a_budget_is_written() -> None:
    assert run_folder("race", "a", 2, 0) == run_folder(Path("race"), "a", 2.0, 0) == Path("race/runs/a-b2-s0")


def test_time_left() -> None:
    finished = [
        RunRecord(arm="a", budget=1, seconds=12, quality=0),
        RunRecord(arm="a", budget=3, seconds=28, quality=0),
        RunRecord(arm="b", budget=1, seconds=20, quality=0),
    ]
    assert time_left(finished, []) == 0
    assert time_left(finished, [Run("a", 2, 0), Run("b", 2, 0)]) == pytest.approx(2 * 10 + 2 * 20)
    assert time_left(finished, [Run("new", 5, 0)]) == pytest.approx(5 * 60 / 5)
    assert time_left([], [Run("a", 2, 0)]) is None
