"""A run whose window closes by itself: its record, that it is the same after a resume and on two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headstart.errors import RecipeError
from headstart.experiment.calibrate import calibrate
from headstart.experiment.earlier import EarlierRuns
from headstart.race import Run
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import count_steps, distill_kind
from headstart.records import RunRecord, read_record
from headstart.train import ranks
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, weight_bits, write_run
from tests.train.processes import run_together

STEPS = 80


def automatic(data: Path, teachers: list[str], **changes: Any) -> Recipe:
    """With teachers of random weights, which say nothing of the labels."""
    distill = {"teachers": teachers, "stop": "auto", "cap": 1.0, **changes.pop("distill", {})}
    settings = {"train__steps": STEPS, "train__warmup": 0.0, "train__schedule": "linear", "train__lr": 0.02, **changes}
    return tiny_recipe(data, distill=distill, **settings)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("random")
    return [str(write_run(folder / name)) for name in ("one", "two")]


def test_the_record_tells_when_and_why_and_what_was_computed(
    tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    recipe = automatic(tiny_data, teachers)
    record = train(recipe, tmp_path / "auto")
    assert record.stopped is not None
    assert 20 < record.stopped.step < record.stopped.end < STEPS
    assert record.stopped.reason in ("passed", "disagreement") and record.stopped.told.startswith(
        "distillation stopped"
    )
    fixed = {"stop": record.stopped.end / STEPS, "cap": None}
    same = train(automatic(tiny_data, teachers, distill=fixed), tmp_path / "fixed")
    assert list(record.steps.values()) == list(same.steps.values()) == [STEPS - record.stopped.end, record.stopped.end]
    assert (record.flops, record.teacher_flops) == (same.flops, same.teacher_flops)
    assert same.stopped is None
    assert read_record(RunRecord, tmp_path / "auto" / "record.json") == record


def test_at_the_cap(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    record = train(automatic(tiny_data, teachers, distill={"cap": 0.2}), tmp_path)
    assert record.stopped is not None and (record.stopped.reason, record.stopped.end) == ("cap", STEPS // 5)
    assert list(record.steps.values()) == [STEPS - STEPS // 5, STEPS // 5]


@pytest.mark.parametrize("stays_shut", [False, True])
def test_a_window_that_waits_is_recorded_with_what_was_computed(
    stays_shut: bool, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    waiting = {"open_at": 1e-6 if stays_shut else 2.0, "stop": 0.5, "cap": None}
    record = train(automatic(tiny_data, teachers, distill=waiting), tmp_path / "waiting")
    assert record.opened is not None and record.stopped is None
    begin = record.opened.begin(STEPS)
    assert begin == STEPS if stays_shut else 8 < begin < STEPS // 2
    assert record.opened.told.startswith("distillation did not begin" if stays_shut else "distillation began at step 9")
    fixed = {"start": min(begin / STEPS, 0.5), "stop": 0.5, "cap": None}
    same = train(automatic(tiny_data, teachers, distill=fixed), tmp_path / "fixed")
    assert same.opened is None and list(record.steps.values()) == list(same.steps.values())
    assert (record.flops, record.teacher_flops) == (same.flops, same.teacher_flops)
    assert weight_bits(tmp_path / "waiting") == weight_bits(tmp_path / "fixed")
    (again,) = EarlierRuns(tmp_path).runs({Run("distill", STEPS, 0): record}).values()
    assert again.steps == record.steps


def test_not_while_the_rate_rises(tiny_data: Path, teachers: list[str]) -> None:
    session = Session(automatic(tiny_data, teachers, train__warmup=0.5))
    for step in range(STEPS // 2):
        session.train_step(step)
    assert session.distiller is not None and session.distiller.stopped is None


def test_a_resumed_run_stops_where_the_whole_one_does(tiny_data: Path, teachers: list[str]) -> None:
    recipe = automatic(tiny_data, teachers)
    whole = Session(recipe)
    for step in range(STEPS):
        whole.train_step(step)
    assert whole.distiller is not None and whole.distiller.stopped is not None
    for cut in (7, whole.distiller.stopped.step - 1, whole.distiller.stopped.step, whole.distiller.stopped.end + 3):
        killed, resumed = Session(recipe), Session(recipe)
        for step in range(cut):
            killed.train_step(step)
        resumed.load_state_dict(killed.state_dict())
        for step in range(cut, STEPS):
            resumed.train_step(step)
        assert resumed.distiller is not None and resumed.distiller.stopped == whole.distiller.stopped
        for name, value in whole.student.state_dict().items():
            assert torch.equal(value, resumed.student.state_dict()[name]), (cut, name)


def train_each(runs: list[tuple[Recipe, Path]]) -> None:
    ranks.connect()
    for recipe, folder in runs:
        train(recipe, folder)


@pytest.mark.slow
def test_two_processes_stop_where_one_does(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    """Also from a checkpoint, of whole and of sharded students: it says what all processes have measured."""
    one = train(automatic(tiny_data, teachers, train__accumulate=2), tmp_path / "one")
    kinds = {"ddp": {}, "fsdp": {"train__sharding": "fsdp"}}
    run_together(
        train_each, [(automatic(tiny_data, teachers, **kind), tmp_path / name) for name, kind in kinds.items()]
    )
    assert one.stopped is not None and one.stopped.reason != "cap"
    weights = load_file(tmp_path / "one" / "model.safetensors")
    for name in kinds:
        record = read_record(RunRecord, tmp_path / name / "record.json")
        assert record.stopped is not None
        assert (record.stopped.step, record.stopped.reason) == (one.stopped.step, one.stopped.reason)
        found = load_file(tmp_path / name / "model.safetensors")
        torch.testing.assert_close(found["linear.weight"], weights["linear.weight"], rtol=1e-3, atol=1e-4)


def test_a_step_that_measures_is_a_kind_of_its_own(tiny_data: Path, teachers: list[str]) -> None:
    recipe, fixed = automatic(tiny_data, teachers), automatic(tiny_data, teachers, distill={"stop": 0.5, "cap": None})
    assert distill_kind(recipe) != distill_kind(fixed)
    calibration = calibrate([recipe], pairs=1)
    assert set(calibration.kinds) == set(count_steps(recipe, STEPS, end=30))


def test_an_earlier_version_s_runs_are_counted_with_their_own_end(
    tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    record = train(automatic(tiny_data, teachers), tmp_path)
    (again,) = EarlierRuns(tmp_path).runs({Run("distill", STEPS, 0): record}).values()
    assert again.steps == record.steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train__first_cycle": 10, "train__steps": 30},
            r"distill.stop=auto closes the window once .*\(race.curve: cyclic\)",
        ),
        (
            {"train__first_cycle": 10, "train__steps": 30, "distill": {"open_at": 0.3, "stop": 0.5, "cap": None}},
            "distill.open_at opens the window once, and train.first_cycle .* set distill.start instead",
        ),
        ({"train__task_loss": "bce"}, "distill.stop=auto compares probabilities .*task_loss=bce trains others"),
    ],
)
def test_what_it_would_measure_wrongly_is_refused(
    changes: dict[str, Any], message: str, tiny_data: Path, teachers: list[str]
) -> None:
    with pytest.raises(RecipeError, match=message):
        Session(automatic(tiny_data, teachers, **changes))
