"""What the report tells of first weights: from what the runs recorded, and only from that."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.init import init_from
from headstart.records import Arm, InitRecord, RaceRecord, RunRecord, TeacherCost
from headstart.report.init_tables import init_table, trained_on_sentences
from headstart.report.page import render_page
from headstart.tasks.images.resnet import ResNet

OLD = TeacherCost(name="old", quality=0.91, seconds=100.0)


def inherited(student: int = 8, source: int = 8, width: int = 4, **options: Any) -> dict[str, Any]:
    models = ResNet(student, classes=3, width=4), ResNet(source, classes=3, width=width)
    return init_from(*models, **options).to_dict()


def starting(
    arm: str, budget: float, quality: float, inherited: dict[str, Any], *, source: TeacherCost = OLD, **settings: Any
) -> RunRecord:
    return RunRecord(
        arm=arm,
        budget=budget,
        quality=quality,
        seconds=10.0 * budget,
        metric="accuracy",
        init=InitRecord(source=source, seconds=0.25 * budget, flops=0.0, inherited=inherited),
        settings={"init": {"from": source.name}, "distill": None} | settings,
    )


def raced(*runs: RunRecord) -> RaceRecord:
    names = dict.fromkeys(["none", *(run.arm for run in runs)])
    fresh = RunRecord(arm="none", budget=1, quality=0.8, seconds=10, metric="accuracy")
    return RaceRecord(
        arms=[Arm(name=name) for name in names],
        baseline="none",
        primary=list(names)[-1],
        budgets=[1, 2],
        budget_unit="epochs",
        seeds=[0],
        runs=[fresh, *runs],
    )


def test_a_row_tells_what_was_kept() -> None:
    cut, grown = inherited(8, 14, 8), inherited(14, 8, 2)
    race = raced(
        starting("cut", 1, 0.85, cut),
        starting("cut", 2, 0.87, cut),
        starting("grown", 1, 0.86, grown),
    )
    rows = init_table(race).rows
    assert [row[:5] for row in rows] == [
        ["cut", "old", "cut", "100.0 %", "0.375"],
        ["grown", "old", "grown, new blocks as the identity", "44.2 %", "0.25"],
    ]
    assert "stage0, inner1: 0 to 6 by 2; " in rows[0][5] and "layer1, layer2, layer3: 0" in rows[0][5]
    assert "layer1, layer2, layer3: 0, new" in rows[1][5]
    assert "statistics are the source's" in str(rows[0][6])
    assert not init_table(raced()).rows


def test_options_are_told() -> None:
    mixed = starting(
        "mixed", 1, 0.9, inherited(shrink=0.4, perturb=0.1), init={"from": "old", "shrink": 0.4, "perturb": 0.1}
    )
    first = starting("first", 1, 0.9, inherited(8, 14, 8, scores="first"), init={"from": "old", "scores": "first"})
    assert [row[2] for row in init_table(raced(mixed, first)).rows] == [
        "copied, times 0.4 plus 0.1 times fresh weights",
        "cut, the first units",
    ]


def test_units_that_differ_between_runs_are_not_told_as_one_choice() -> None:
    one, other = inherited(8, 14, 8), inherited(8, 14, 8, scores="first")
    (row,) = init_table(raced(starting("cut", 1, 0.85, one), starting("cut", 2, 0.87, other))).rows
    assert str(row[5]).endswith("(so in one run, otherwise in others)")


def test_the_older_model_trained_on_stands_beside_starts_from_it() -> None:
    same = inherited()
    race = raced(
        starting("continue", 1, 0.915, same),
        starting("continue", 2, 0.92, same),
        starting("distilled", 1, 0.925, same, distill={"teachers": ["old"]}),
        starting("distilled", 2, 0.935, same, distill={"teachers": ["old"]}),
    )
    assert trained_on_sentences(race) == [
        "continue is the older model itself, trained on: old, which had 91.0 % accuracy, after 2 epochs more 92.0 % "
        "accuracy.",
        "distilled starts from a model of its own shape: old, which had 91.0 % accuracy; simply trained on for 2 "
        "epochs more (continue) it has 92.0 % accuracy, and distilled has 93.5 % accuracy.",
    ]
    page = render_page(race, [], [])
    assert "Weights from older models" in page and "continue is the older model itself" in page


def test_where_no_arm_trains_it_on_that_is_said() -> None:
    unknown = TeacherCost(name="old")
    race = raced(starting("warm", 1, 0.9, inherited(), source=unknown, init={"from": "old", "shrink": 0.4}))
    assert trained_on_sentences(race) == [
        "warm starts from a model of its own shape: old, whose own quality is not known. How far that one gets when it "
        "is simply trained on for as long was not raced; an arm of `set: {init: {from: old}, distill: null}` tells."
    ]


def test_budgets_that_are_not_shared_are_not_compared() -> None:
    race = raced(
        starting("continue", 1, 0.915, inherited()),
        starting("warm", 2, 0.9, inherited(), init={"from": "old", "shrink": 0.4}),
    )
    assert trained_on_sentences(race)[1].endswith("continue trains it on as it is, but at other budgets.")


@pytest.mark.parametrize(("student", "source", "width"), [(8, 14, 4), (8, 8, 8), (14, 8, 4)])
def test_of_other_shapes_nothing_is_said(student: int, source: int, width: int) -> None:
    assert trained_on_sentences(raced(starting("cut", 1, 0.85, inherited(student, source, width)))) == []
    assert "Weights from older models" not in render_page(raced(), [], [])
