"""A plan of tiny recipes: what it measures agrees with what is known otherwise, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from headstart.cache.source import cache_file
from headstart.errors import HeadstartError, RecipeError, TeacherError
from headstart.experiment import fill_cache
from headstart.experiment.fill_cache import cache_recipe
from headstart.experiment.planning import bench, measure
from headstart.experiment.planning.plan import plan_recipe
from headstart.recipe.recipe import Recipe
from headstart.train.costs.planned import PlanRecord
from headstart.train.run import train
from tests.tiny import tiny_recipe, write_images


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds: what the times are is of no account here."""
    monkeypatch.setattr("headstart.experiment.planning.measure._ROUNDS", (2, 2))
    monkeypatch.setattr(bench, "BATCHES", 4)


def planned(recipe: Recipe, teachers: Path = Path("nowhere")) -> PlanRecord:
    return plan_recipe(recipe, teachers, seconds=1)


def test_steps_flops_and_teachers_are_those_of_the_run(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers[:1], "stop": 0.5})
    found = planned(recipe)
    record = train(recipe, tmp_path / "run")
    assert found.steps == sum(record.steps.values()) == 12 and found.epochs == pytest.approx(12 * 24 / 120)
    own = next(way for way in found.ways if way.own)
    assert record.flops is not None and record.teacher_flops is not None
    assert found.student_flops * 12 * (1 + (own.flops_overhead or 0)) == pytest.approx(record.flops)
    (teacher,) = found.teachers
    assert 6 * teacher.flops == pytest.approx(record.teacher_flops)
    assert teacher.trained and teacher.quality == record.teachers[0].quality
    assert teacher.training_flops == record.teachers[0].flops
    assert teacher.seen == pytest.approx(30 * 24 / (12 * 24))
    assert {way.kind for way in found.ways} == {"plain", "window", "automatic", "cached"}
    assert not any(way.refused for way in found.ways)
    assert found.recommended in {way.name for way in found.ways} and found.reasons


def test_what_a_look_at_the_teachers_would_decide_is_planned_at_its_most(tiny_data: Path, teachers: list[str]) -> None:
    found = planned(tiny_recipe(tiny_data, distill={"teachers": teachers, "weights": "auto", "temperature": "auto"}))
    assert len(found.teachers) == len(teachers) and {"plain", "automatic"} <= {way.kind for way in found.ways}


def test_a_cache_is_as_large_as_it_will_be(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 0.5}, data__seed=3)
    found = planned(recipe)
    files = cache_recipe(recipe, tmp_path / "cache")
    assert found.cache is not None
    assert found.cache.bytes == sum(file.stat().st_size for file in files)
    assert [cache_file(tmp_path / "cache", teacher) for teacher in teachers] == files
    assert found.cache.by == "epoch"
    assert [teacher.share for teacher in found.teachers] == [0.5, 0.5]


def test_peaks_are_taken_in_the_order_in_which_they_rise(
    tiny_data: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process keeps what it has freed: after a step that distils no lower peak would be seen."""
    order: list[str] = []

    def peak(_: bench.Bench, distiller: object) -> int:
        order.append("plain" if distiller is None else "distilled")
        return 10 * len(order)

    def highest(*_: object) -> int:
        order.append("evaluated")
        return 10 * len(order)

    monkeypatch.setattr(measure, "_peak", peak)
    monkeypatch.setattr(measure, "_highest", highest)
    memory = planned(tiny_recipe(tiny_data, distill={"teachers": teachers})).memory
    assert order == ["plain", "evaluated", "distilled"]
    assert (memory.plain_peak, memory.distilled_peak) == (20, 30)


def test_a_cache_by_view_is_planned_where_that_is_smaller(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    """240 views of 120 images, of which a run of 24 steps sees 576, and one of 8 steps 192."""
    plans = {}
    for steps in (8, 24):
        overrides: dict[str, Any] = {"data__augment": {"flip": True}, "train__steps": steps}
        recipe = tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 1.0}, **overrides)
        plans[steps] = planned(recipe)
    short, long = plans[8].cache, plans[24].cache
    assert short is not None and long is not None
    assert (short.by, long.by) == ("epoch", "view")
    files = cache_recipe(recipe, tmp_path / "cache", by="view")
    assert long.bytes == pytest.approx(sum(file.stat().st_size for file in files), abs=1000)  # headers


def test_memory_is_that_of_the_tensors(tiny_data: Path, teachers: list[str]) -> None:
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers}, train__optimizer="adamw", train__ema=0.9)
    memory = planned(recipe).memory
    assert memory.gradients < memory.parameters  # which has the buffers of batch norms, too
    assert 2 * memory.gradients <= memory.optimizer < 2.1 * memory.gradients
    assert memory.average >= memory.parameters and memory.teachers > memory.parameters
    if memory.distilled_peak is not None:
        assert memory.rest is not None and memory.plain_peak is not None
        assert memory.host_peak is not None and memory.plain_peak <= memory.distilled_peak <= memory.host_peak
        known = memory.parameters + memory.gradients + memory.optimizer + memory.average + memory.teachers
        assert memory.rest + known == memory.distilled_peak


def test_teachers_that_are_not_trained_yet_are_timed_all_the_same(tiny_data: Path, tmp_path: Path) -> None:
    described = {"old": {"train.steps": 24, "model.width": 8}}
    recipe = tiny_recipe(tiny_data, teachers=described, distill={"teachers": ["old"]}, init={"from": "old"})
    found = planned(recipe, tmp_path)
    (teacher,) = found.teachers
    assert not teacher.trained and teacher.quality is None and teacher.seen == 2
    trained = train(tiny_recipe(tiny_data, train__steps=24, model__width=8), tmp_path / "old")
    assert teacher.training_flops == pytest.approx(trained.flops)
    assert {way.name: way.own for way in found.ways}["init + window 0.5"]
    again = planned(recipe, tmp_path).teachers[0]
    assert again.trained and again.quality == trained.quality and again.flops == teacher.flops


def test_an_init_alone_has_no_teachers(tiny_data: Path, teachers: list[str]) -> None:
    found = planned(tiny_recipe(tiny_data, init={"from": teachers[0]}))
    assert [way.name for way in found.ways] == ["plain", "init"] and found.recommended == "init"
    assert found.distilled is None and found.loss is None and found.teachers == []
    assert found.ways[1].seconds > found.ways[0].seconds


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"data__augment": {"mixup": 0.2}}, "cached", "mixture's target belongs to two images"),
        ({"train__task_loss": "bce"}, "automatic", "distill.stop to a fraction"),
        ({"train__steps": 14, "train__first_cycle": 2}, "automatic", "train.first_cycle"),
        ({"distill__residence": "stream"}, "cached", "asks all teachers for each batch"),
    ],
)
def test_a_way_that_is_not_possible_says_why(
    changes: dict[str, Any], kind: str, why: str, tiny_data: Path, teachers: list[str]
) -> None:
    found = planned(tiny_recipe(tiny_data, distill={"teachers": teachers}, **changes))
    refused = [(way.kind, way.refused) for way in found.ways if way.refused]
    assert [one for one, _ in refused] == [kind] and why in refused[0][1]


def test_what_a_look_before_training_decides_is_planned_at_its_dearest(tiny_data: Path, teachers: list[str]) -> None:
    distill = {"teachers": teachers, "temperature": "auto", "every": "auto", "weights": "auto"}
    found = planned(tiny_recipe(tiny_data, distill=distill))
    assert "temperature, every, weights: auto) is planned at its dearest" in found.reasons[-1]
    refused = [(way.kind, way.refused) for way in found.ways if way.refused]
    assert [kind for kind, _ in refused] == ["cached"] and "decided before each training" in refused[0][1]
    assert [way.name for way in found.ways if way.own] == ["window 0.5"]


def test_of_cached_targets_the_live_teachers_are_timed(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers[:1], "cache": str(tmp_path / "not there yet")})
    found = planned(recipe)
    own = [way.name for way in found.ways if way.own]
    assert own == ["cached"] and found.teachers[0].forward.seconds > 0


def test_nothing_is_left_behind(
    tiny_data: Path, teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    write = fill_cache.write_targets

    def noting(session: Any, folder: str, *rest: Any, **named: Any) -> Any:
        made.append(Path(folder))
        return write(session, folder, *rest, **named)

    monkeypatch.setattr(bench, "write_targets", noting)
    monkeypatch.chdir(tmp_path)
    planned(tiny_recipe(tiny_data, distill={"teachers": teachers}))
    assert made and not made[0].exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda recipe: recipe, RecipeError, "the plain run is the only way"),
        (lambda recipe: tiny_recipe(Path(recipe.data.name), distill={"teachers": ["gone"]}), TeacherError, "gone"),
        (
            lambda recipe: tiny_recipe(
                Path(recipe.data.name), distill={"teachers": ["gone"], "hidden": {"student": 0.5}}
            ),
            RecipeError,
            "distill.hidden: a plan times losses between logits only",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(
    change: Callable[[Any], Recipe], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    data = write_images(tmp_path / "data")
    with pytest.raises(kind, match=message):
        planned(change(tiny_recipe(data)))


def test_an_operator_of_unknown_flops_is_found_before_training(
    tiny_data: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(model: nn.Module, *_: Any) -> int:
        raise HeadstartError("cannot count FLOPs: nothing is known about the operator odd")

    monkeypatch.setattr("headstart.experiment.planning.plan.step_flops", refusing)
    with pytest.raises(HeadstartError, match="operator odd"):
        planned(tiny_recipe(tiny_data, distill={"teachers": teachers}))
