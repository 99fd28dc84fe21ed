"""Earlier runs as teachers: which fit, which are best, and that a resumed run keeps to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.errors import HeadstartError, RecipeError, TeacherError
from headstart.experiment.recycle import RECYCLED, Recycled, RecycleRecord, best_first, recycled_recipe
from headstart.records import RunRecord, read_record, write_record
from headstart.train.run import train
from tests.tiny import tiny_recipe, write_images, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def search(data: Path, tmp_path: Path) -> Path:
    """Three finished runs of a search; the second is the best by its record."""
    for number, quality in enumerate((0.7, 0.9, 0.8)):
        place = tmp_path / "search" / f"trial-{number}"
        record = train(tiny_recipe(data, train__steps=2, train__seed=number), place)
        write_record(record.model_copy(update={"quality": quality}), place / "record.json")
    return tmp_path / "search"


def change(place: Path, **changes: Any) -> None:
    """Change what a run's record says; of its data by `data__KEY`."""
    content = json.loads((place / "record.json").read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content["settings"][section][name] = value
        else:
            content[key] = value
    (place / "record.json").write_text(json.dumps(content))


def chosen(recipe_data: Path, search: Path, out: Path, count: int = 1, **recipe: Any) -> list[str]:
    made, record = recycled_recipe(tiny_recipe(recipe_data, **recipe), search, out, count=count)
    assert made.distill is not None and made.distill.specs == [run.spec for run in record.chosen]
    return [Path(spec).name for spec in made.distill.specs]


def test_the_best_of_a_search_teaches(data: Path, search: Path, tmp_path: Path) -> None:
    assert chosen(data, search, tmp_path / "one") == ["trial-1"]
    assert chosen(data, search, tmp_path / "two", 2) == ["trial-1", "trial-2"]
    assert chosen(data, search, tmp_path / "all", 9) == ["trial-1", "trial-2", "trial-0"]


def test_a_run_judged_by_something_else_counts_by_what_the_task_measures(
    data: Path, search: Path, tmp_path: Path
) -> None:
    change(search / "trial-0", metric="GLUE", quality=0.1, losses={"accuracy": 0.95})
    assert chosen(data, search, tmp_path / "out") == ["trial-0"]


def test_how_to_distil_is_what_the_recipe_says_and_its_own_teachers_give_way(
    data: Path, search: Path, tmp_path: Path
) -> None:
    distill = {"teachers": ["described"], "stop": 0.3, "temperature": 2.0}
    recipe = tiny_recipe(data, teachers={"described": {}}, distill=distill)
    made, _ = recycled_recipe(recipe, search, tmp_path / "out")
    assert made.distill is not None and (made.distill.stop, made.distill.temperature) == (0.3, 2.0)
    assert made.sources == [str(search / "trial-1")]


def test_a_run_does_not_teach_itself(data: Path, search: Path) -> None:
    assert chosen(data, search, search / "trial-1") == ["trial-2"]


def test_a_resumed_run_keeps_its_teachers(data: Path, search: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert chosen(data, search, out) == ["trial-1"]
    change(search / "trial-2", quality=0.99)
    assert chosen(data, search, out) == ["trial-1"]
    assert chosen(data, search, tmp_path / "another") == ["trial-2"]
    with pytest.raises(HeadstartError, match=r"its teachers were chosen from .*search; go on with --recycle"):
        recycled_recipe(tiny_recipe(data), tmp_path / "elsewhere", out)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda place: change(place, data__name="other"), "it was trained on other, and here it is"),
        (lambda place: change(place, data__evaluate="validation"), "it was judged by others: its data.evaluate"),
        (lambda place: change(place, metric="GLUE"), "it was judged by GLUE, and its accuracy is not known"),
        (lambda place: (place / "record.json").unlink(), "has not finished"),
        (lambda place: (place / "model.safetensors").write_bytes(b"damaged"), "model.safetensors"),
        (lambda place: (place / "record.json").write_text("{}"), "quality"),
    ],
)
def test_each_run_that_does_not_fit_is_told_why(
    made: Callable[[Path], Any], reason: str, data: Path, search: Path, tmp_path: Path
) -> None:
    made(search / "trial-1")
    made_recipe, record = recycled_recipe(tiny_recipe(data), search, tmp_path / "out")
    assert Path(record.chosen[0].spec).name == "trial-2" and made_recipe.distill is not None
    ((place, why),) = record.passed_over.items()
    assert Path(place).name == "trial-1" and reason in why
    for trial in ("trial-0", "trial-2"):
        made(search / trial)
    with pytest.raises(TeacherError, match="no run there can teach this one:") as error:
        recycled_recipe(tiny_recipe(data), search, tmp_path / "none")
    assert all(f"trial-{number}: " in str(error.value) for number in range(3)) and reason in str(error.value)
    assert not (tmp_path / "none").exists()


def test_what_has_seen_the_samples_held_out_does_not_teach(data: Path, search: Path, tmp_path: Path) -> None:
    judged: dict[str, Any] = {"data__holdout": 30, "data__evaluate": "validation"}
    for number in range(3):
        change(search / f"trial-{number}", data__evaluate="validation")
    with pytest.raises(TeacherError, match=r"it may have trained on what is held out here: its data.holdout was 0"):
        chosen(data, search, tmp_path / "out", **judged)
    change(search / "trial-0", data__holdout=30)
    assert chosen(data, search, tmp_path / "out", **judged) == ["trial-0"]
    # Set aside, but not what the run is judged by.
    for number in range(3):
        change(search / f"trial-{number}", data__evaluate="test", data__holdout=0)
    assert chosen(data, search, tmp_path / "test", data__holdout=30) == ["trial-1"]


def test_other_classes_do_not_fit(data: Path, search: Path, tmp_path: Path) -> None:
    other = write_images(tmp_path / "elsewhere" / data.name, classes=("bright", "left", "bottom"))
    with pytest.raises(TeacherError, match=r"trial-1: .*class"):
        chosen(other, search, tmp_path / "out")


@pytest.mark.parametrize(
    ("folder", "distill", "kind", "message"),
    [
        ("nowhere", None, TeacherError, "nowhere: no such folder"),
        ("empty", None, TeacherError, "holds no run folders"),
        (
            "search",
            {"teachers": ["a"], "cache": "runs/cache"},
            RecipeError,
            "distill.cache=runs/cache has its teachers",
        ),
        ("search", {"teachers": ["a", "b"], "draw": 2}, RecipeError, "draw=2 must be a number from 1 to 1"),
    ],
)
def test_bad_input(
    folder: str, distill: Any, kind: type[Exception], message: str, data: Path, search: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=message):
        recycled_recipe(tiny_recipe(data, distill=distill), tmp_path / folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def run(name: str, quality: float, cost: float | None = 1.0) -> Recycled:
    return Recycled(spec=name, quality=quality, metric="m", cost=cost)


@pytest.mark.parametrize(
    ("runs", "higher", "order"),
    [
        ([run("a", 0.8), run("b", 0.9), run("c", 0.7)], True, "bac"),
        ([run("a", 0.8), run("b", 0.9), run("c", 0.7)], False, "cab"),
        ([run("dear", 0.93, 4.0), run("x", 0.929, 1.0)], True, "xdear"),  # no more than noise apart
        ([run("dear", 0.93, 4.0), run("x", 0.92, 1.0)], True, "dearx"),
        ([run("a", 0.93), run("b", 0.9305)], True, "ba"),  # as dear: the better
        ([run("a", 0.93, None), run("b", 0.9305, None)], True, "ba"),  # no cost known
        ([run("a", 0.9305, None), run("b", 0.93, 1.0)], True, "ba"),
    ],
)
def test_quality_comes_first_and_cost_decides_among_equals(runs: list[Recycled], higher: bool, order: str) -> None:
    assert "".join(one.spec for one in best_first(runs, higher_is_better=higher)) == order


def test_the_command(data: Path, search: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(data))
    arguments = ["train", str(recipe), "--recycle", str(search), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "recycled as teachers: " in done.stderr and "the best of 3 runs" in done.stderr
    record = read_record(RunRecord, tmp_path / "out" / "record.json")
    assert [Path(teacher.name).name for teacher in record.teachers] == ["trial-1"]
    kept = read_record(RecycleRecord, tmp_path / "out" / RECYCLED)
    assert kept.fitting == 3 and kept.chosen[0].cost is not None
    change(search / "trial-2", quality=0.99)
    assert CliRunner().invoke(app, arguments).exit_code == 0  # the same run, finished already
    refused = CliRunner().invoke(
        app, ["train", str(recipe), "--recycle", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    assert refused.exit_code == 1 and "its teachers were chosen from" in refused.stderr
