"""What the ways of a recipe cost, from step times that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.experiment.planning.advice import recommended
from headstart.experiment.planning.measure import Times, step_time
from headstart.experiment.planning.ways import Costs, ways_of
from headstart.train.costs.planned import PlannedCache, PlannedTeacher, Way
from tests.tiny import tiny_recipe

STEPS = 100


def costs(distill: dict[str, Any] | None = None, *, forward: float = 0.3, **changes: Any) -> Costs:
    """A plain step of 1 s, a teacher's forward, 0.1 s of loss, 0.02 s to look for a stop, 0.05 s to read targets."""
    given = {"distill": {"teachers": ["a"], **distill}} if distill is not None else {}
    recipe = tiny_recipe(Path("somewhere"), **given, **changes.pop("recipe", {}))
    live = 1.1 + forward
    times = Times(
        plain=[1.0, 1.0],
        distilled=[live, live],
        automatic=[live + 0.02] * 2,
        cached=[1.05, 1.05],
        forwards=[[forward, forward]],
        asked=[(0,), (0,)],
    )
    settings: dict[str, Any] = {
        "recipe": recipe,
        "steps": STEPS,
        "times": {None: times},
        "shares": [1.0] if distill is not None else [],
        "slowest": 0.0,
        "student_flops": {None: 30.0},
        "teacher_flops": {None: 10.0},
        "before": None,
        "cache": PlannedCache(bytes=1, seconds=20.0, kind="full", step=step_time([1.05])),
        "refused": {},
    }
    return Costs(**{**settings, **changes})


def by_name(found: Costs) -> dict[str, Way]:
    return {way.name: way for way in ways_of(found)}


def test_each_way_is_the_sum_of_its_steps() -> None:
    found = by_name(costs({"stop": 0.5}))
    assert found["plain"].seconds == 100 and found["plain"].saving == 0
    assert found["window 0.3"].seconds == pytest.approx(100 + 30 * 0.4)
    assert found["window 0.5"].seconds == pytest.approx(120) and found["window 0.5"].own
    assert found["window 1"].seconds == pytest.approx(140)
    assert found["window 1"].saving == pytest.approx(1 - 1 / 1.4)
    automatic = found["automatic, to 0.5 at most"]
    assert automatic.seconds == pytest.approx(100 + 50 * 0.42) and automatic.at_most
    assert found["cached"].seconds == pytest.approx(100 + 50 * 0.05) and found["cached"].once == 20
    assert found["window 0.5"].flops_overhead == pytest.approx(50 * 10 / 3000)
    assert found["cached"].flops_overhead == 0


@pytest.mark.parametrize(
    ("distill", "name", "distilled"),
    [
        ({"stop": 0.7, "start": 0.2}, "window 0.7", 50),
        ({"stop": 0.8, "every": 4}, "window 0.8", 20),
        ({"stop": "auto", "cap": 0.25}, "automatic, to 0.25 at most", 25),
    ],
)
def test_the_recipes_own_window_is_there(distill: dict[str, Any], name: str, distilled: int) -> None:
    own = [way for way in ways_of(costs(distill)) if way.own]
    assert [way.name for way in own] == [name]
    step = 0.42 if distill["stop"] == "auto" else 0.4
    assert own[0].seconds == pytest.approx(100 + distilled * step)


def test_windows_that_would_end_before_they_begin_are_left_out() -> None:
    names = by_name(costs({"start": 0.6, "stop": 0.9}))
    assert set(names) == {"plain", "window 0.9", "window 1", "cached"}


def test_the_way_of_a_cyclic_run_distils_in_each_cycle() -> None:
    train = {"train__steps": 70, "train__first_cycle": 10}
    found = by_name(costs({"stop": 0.5}, steps=70, recipe=train))
    assert found["window 0.5"].seconds == pytest.approx(70 + (5 + 10 + 20) * 0.4)


def test_workers_that_are_slower_than_a_plain_step_hide_what_distilling_adds() -> None:
    assert by_name(costs({"stop": 1.0}, slowest=1.2))["window 1"].overhead == pytest.approx(1.4 / 1.2 - 1)
    assert by_name(costs({"stop": 1.0}, slowest=2.0))["window 1"].overhead == 0


def test_an_init_costs_what_comes_before_the_first_step() -> None:
    init = {"init": {"from": "old"}}
    alone = by_name(costs(None, before=5.0, recipe=init))
    assert set(alone) == {"plain", "init"} and alone["init"].own
    assert alone["init"].saving == pytest.approx(0.05)
    both = by_name(costs({"stop": 0.5}, before=5.0, recipe=init))
    assert both["init + window 0.5"].own and both["init + window 0.5"].seconds == pytest.approx(125)
    assert not both["init"].own and not both["window 0.5"].own


def test_what_is_refused_says_why_and_costs_nothing() -> None:
    cached = by_name(costs({"stop": 0.5}, cache=None, refused={"cached": "mixtures have no targets of their own"}))[
        "cached"
    ]
    assert cached.refused.startswith("mixtures") and cached.overhead == 0


def test_draws_among_teachers_cost_what_they_cost_on_average() -> None:
    times = Times(
        plain=[1.0, 1.0],
        distilled=[1.3, 1.7],  # the first asked the cheap one, the second the dear one
        forwards=[[0.2, 0.2], [0.6, 0.6]],
        asked=[(0,), (1,)],
    )
    assert times.added() == pytest.approx([0.1, 0.1])
    assert times.distilled_seconds([0.75, 0.25]) == pytest.approx(1.1 + 0.75 * 0.2 + 0.25 * 0.6)


def advice(found: Costs, epochs: float | None = 8.0, *teachers: PlannedTeacher) -> tuple[str, str]:
    name, reasons = recommended(found.recipe, ways_of(found), teachers, epochs)
    return name, "; ".join(reasons)


def test_the_automatic_window_is_recommended_where_it_can_be() -> None:
    name, why = advice(costs({"stop": 1.0}))
    assert name == "automatic, to 0.5 at most" and "save 17.4% of the steps" in why
    name, why = advice(costs({"stop": 1.0}), 123.0)
    assert name == "window 1" and "goes through its data 123 times" in why
    name, _ = advice(costs({"stop": 0.3}, refused={"automatic": "no labels"}))
    assert name == "window 0.3"


def test_what_no_race_has_shown_to_pay_is_not_recommended() -> None:
    dear = costs({"stop": 0.5}, forward=3.0)
    name, why = advice(dear)
    assert name == "cached" and "needs 2.4%" in why and "no race" in why
    name, why = advice(costs({"stop": 0.5}, forward=3.0, cache=None, refused={"cached": "x"}))
    assert name == "plain" and "take a smaller teacher" in why


def test_a_teacher_that_has_seen_no_more_than_the_run_will_is_told_of() -> None:
    step = step_time([0.3])
    teacher = PlannedTeacher(name="old", trained=True, parameters=1, bytes=4, share=1, forward=step, flops=1, seen=1.0)
    assert "teacher old has seen 1 times as many" in advice(costs({"stop": 0.5}), 8.0, teacher)[1]
    patient = teacher.model_copy(update={"seen": 3.0})
    assert "teacher old" not in advice(costs({"stop": 0.5}), 8.0, patient)[1]
    unknown = teacher.model_copy(update={"seen": None})
    assert "teacher old" not in advice(costs({"stop": 0.5}), 8.0, unknown)[1]
