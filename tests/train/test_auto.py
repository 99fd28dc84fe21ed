"""A run that leaves its settings to a look at its teachers: what it chooses, records, and does again after a kill."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from headstart.experiment.race import race_recipe
from headstart.race.statistics.costs import run_cost
from headstart.recipe.image_sizes import count_sides
from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import AutoRecord, Calibration, RunRecord, StepTime, read_record
from headstart.train import probing, ranks
from headstart.train.precision import settled
from headstart.train.probing import look_at_teachers
from headstart.train.run import train
from headstart.train.setup.build_task import build_task
from tests.tiny import RACE, tiny_recipe, weight_bits, write_run
from tests.train.processes import run_together

AUTO = {"temperature": "auto", "weights": "auto", "open_at": "auto", "every": "auto", "stop": "auto"}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> dict[str, str]:
    """One that has learnt, for longer than its students will; one of random weights."""
    folder = tmp_path_factory.mktemp("teachers")
    train(tiny_recipe(tiny_data, train__steps=150, train__seed=7), folder / "good")
    torch.manual_seed(0)
    write_run(folder / "random")
    return {name: str(folder / name) for name in ("good", "random")}


def automatic(data: Path, teachers: list[str], **changes: Any) -> Recipe:
    return tiny_recipe(data, distill={"teachers": teachers, **AUTO, **changes.pop("distill", {})}, **changes)


def test_it_trains_as_with_the_settings_that_it_prints(
    tiny_data: Path, teachers: dict[str, str], tmp_path: Path
) -> None:
    lines: list[str] = []
    record = train(automatic(tiny_data, list(teachers.values())), tmp_path / "auto", note=lines.append)
    auto = record.auto
    assert auto is not None and auto.distill is not None
    assert auto == read_record(AutoRecord, tmp_path / "auto" / "auto.json")
    assert [entry["spec"] for entry in auto.distill["teachers"]] == [teachers["good"]]
    assert record.settings["distill"] == auto.distill
    assert any(line.startswith(f"{teachers['random']}: not asked: no better than the labels'") for line in auto.reasons)
    assert "the first training batches" in auto.rows and auto.seconds > 0 and auto.flops > 0
    assert lines[: len(auto.reasons) + 1] == [f"looked at {auto.rows}", *auto.reasons]
    told = "\n".join(lines[lines.index("the same as fixed settings:") + 1 :])
    fixed = train(tiny_recipe(tiny_data, distill=yaml.safe_load(told)["distill"]), tmp_path / "fixed")
    assert weight_bits(tmp_path / "auto") == weight_bits(tmp_path / "fixed")
    assert fixed.auto is None and fixed.steps == record.steps
    assert record.flops == pytest.approx((fixed.flops or 0.0) + auto.flops)


def test_the_probe_is_on_every_clock() -> None:
    auto = AutoRecord(distill=None, seconds=3.0)
    run = RunRecord(quality=1.0, seconds=13.0, steps={"plain": 10}, auto=auto)
    assert run_cost(run, "calibrated", Calibration(kinds={"plain": StepTime(seconds=1.0)})) == 13.0


def test_no_teacher_of_use_and_the_run_goes_on(tiny_data: Path, teachers: dict[str, str], tmp_path: Path) -> None:
    lines: list[str] = []
    record = train(automatic(tiny_data, [teachers["random"]]), tmp_path / "auto", note=lines.append)
    train(tiny_recipe(tiny_data), tmp_path / "plain")
    assert record.auto is not None and record.auto.distill is None
    assert "no teacher is of use: training goes on without distillation" in lines
    assert weight_bits(tmp_path / "auto") == weight_bits(tmp_path / "plain")
    assert len(record.steps) == 1 and record.teachers == []


def test_a_killed_run_goes_on_with_the_same_choice(
    tiny_data: Path, teachers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = automatic(tiny_data, list(teachers.values()))
    whole = train(recipe, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step: int, total_steps: int, loss: float) -> None:
        if step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, tmp_path / "killed", progress=kill)
    kept = read_record(AutoRecord, tmp_path / "killed" / "auto.json")
    monkeypatch.setattr(probing, "look_at_teachers", None)  # not a second time
    resumed = train(recipe, tmp_path / "killed")
    assert resumed.auto == kept and whole.auto is not None and kept.distill == whole.auto.distill
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")
    assert resumed.seconds >= kept.seconds


def test_rows_set_aside_are_looked_at_where_the_run_is_not_judged_by_them(
    tiny_data: Path, teachers: dict[str, str]
) -> None:
    def rows(**data: Any) -> str:
        recipe = settled(
            automatic(tiny_data, [teachers["good"]], **{f"data__{key}": value for key, value in data.items()})
        )
        device = torch.device(ranks.connect().device)
        return look_at_teachers(recipe, build_task(recipe, device), device, {}).rows

    assert rows(tuning=30) == "training samples set aside by data.tuning"
    assert rows(holdout=30, tuning=30) == "training samples set aside by data.tuning"
    assert rows(holdout=30) == "training samples set aside by data.holdout"
    assert rows(holdout=30, evaluate="validation").startswith("the first training batches")
    assert rows(holdout=30, tuning=30, evaluate="validation") == "training samples set aside by data.tuning"
    assert rows(tuning=30, evaluate="tuning").startswith("the first training batches")


def test_held_out_rows_are_those_that_evaluate_judges_by(tiny_data: Path) -> None:
    task = build_task(tiny_recipe(tiny_data), "cpu")
    shown: list[torch.Tensor] = []

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        shown.append(inputs)
        return torch.zeros(len(inputs), task.num_classes)

    task.evaluate(forward)
    held_out = list(task.held_out(25))
    assert [len(batch.labels) for batch in held_out] == [25, 25, 10]
    torch.testing.assert_close(torch.cat([batch.inputs for batch in held_out]), torch.cat(shown))
    assert torch.cat([batch.samples for batch in held_out]).tolist() == list(range(60))


def test_the_longer_a_training_the_less_a_teacher_is_worth(
    tiny_data: Path, teachers: dict[str, str], tmp_path: Path
) -> None:
    short, long = (
        train(automatic(tiny_data, [teachers["good"]], train__steps=steps), tmp_path / str(steps))
        for steps in (12, 240)
    )
    assert short.auto is not None and short.auto.distill is not None
    assert long.auto is not None and long.auto.distill is None
    assert "asking it costs more than it can be worth" in long.auto.reasons[0]


def test_in_a_race_each_run_decides_and_what_it_decided_is_calibrated(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tiny_data,
        teachers={"old": {"train.steps": 150, "train.seed": 100}},
        race={
            **RACE,
            "primary": "auto",
            "arms": {"baseline": {"set": {"distill": None}}, "auto": {"set": {"distill": "auto"}}},
        },
    )
    record = race_recipe(recipe, tmp_path)
    assert not record.failures and record.calibration is not None, record.calibration_failure
    runs = [run for run in record.runs if run.arm == "auto"]
    assert all(run.auto is not None and run.auto.distill is not None for run in runs)
    assert {kind for run in record.runs for kind in run.steps} <= set(record.calibration.kinds)
    assert {result.clock for result in record.results} == {"calibrated", "seconds", "flops"}
    again = race_recipe(recipe, tmp_path)
    assert json.loads(again.model_dump_json()) == json.loads(record.model_dump_json())


def train_each(runs: list[tuple[Recipe, Path]]) -> None:
    ranks.connect()
    for recipe, folder in runs:
        train(recipe, folder)


@pytest.mark.slow
def test_two_processes_decide_as_one(tiny_data: Path, teachers: dict[str, str], tmp_path: Path) -> None:
    recipe = automatic(tiny_data, list(teachers.values()))
    one = train(automatic(tiny_data, list(teachers.values()), train__accumulate=2), tmp_path / "one")
    run_together(train_each, [(recipe, tmp_path / "two")])
    two = read_record(RunRecord, tmp_path / "two" / "record.json")
    assert one.auto is not None and two.auto is not None
    assert two.auto.distill == one.auto.distill and two.auto.distill is not None
    assert two.flops == pytest.approx(one.flops)


def test_recipes_of_text_have_held_out_rows(tmp_path: Path) -> None:
    """Masked and next tokens, each as they are judged."""
    words = ["time", "train", "model", "head", "start", "fast", "slow", "good"]
    generator = torch.Generator().manual_seed(0)
    place = tmp_path / "text"
    place.mkdir()
    for split, lines in (("train", 60), ("test", 20)):
        text = [" ".join(words[i] for i in torch.randint(8, (40,), generator=generator)) for _ in range(lines)]
        (place / f"{split}.txt").write_text("\n\n".join(text), encoding="utf-8")
    sizes = {"mlm": ({"name": "modernbert", "size": "tiny"}, 64), "clm": ({"size": "1m"}, 320)}
    for name, (model_size, vocabulary) in sizes.items():
        data = {"name": str(place), "length": 16, "vocab_size": vocabulary}
        content = {"task": name, "model": model_size, "data": data, "train": {"steps": 2, "batch_size": 4}}
        task = build_task(parse_recipe(content, "here"), "cpu")
        batches = list(task.held_out(8))
        model = task.build_model().eval()
        with torch.no_grad():
            judged = task.evaluate(partial(task.forward, model))
        assert sum(int((batch.labels != -100).sum()) for batch in batches) == judged.rows


def test_teachers_that_are_asked_in_any_case_are_calibrated_though_they_cannot_be_worth_it(
    tiny_data: Path, tmp_path: Path
) -> None:
    train(tiny_recipe(tiny_data, train__steps=2), tmp_path / "short")
    distill = {"teachers": [str(tmp_path / "short")], "temperature": "auto"}
    for weights, kept in ((None, True), ("auto", False)):
        recipe = tiny_recipe(tiny_data, distill={**distill, "weights": weights})
        record = train(recipe, tmp_path / f"run-{weights}")
        assert record.auto is not None and (record.auto.probe["rows"] > 0) is kept
        assert (record.auto.distill is not None) is kept
        if record.auto.distill is not None:
            assert record.auto.distill["teachers"][0]["temperature"] is not None
        else:
            assert record.auto.flops == 0.0


def test_what_a_teacher_that_began_with_another_knows_is_not_reckoned_by_its_own_training(
    tiny_data: Path, teachers: dict[str, str], tmp_path: Path
) -> None:
    train(tiny_recipe(tiny_data, train__steps=2, init={"from": teachers["good"]}), tmp_path / "second")
    train(tiny_recipe(tiny_data, train__steps=2), tmp_path / "short")
    asked = {}
    for name in ("second", "short"):
        record = train(automatic(tiny_data, [str(tmp_path / name)]), tmp_path / f"by-{name}")
        assert record.auto is not None
        asked[name] = record.auto.probe["rows"] > 0
    assert asked == {"second": True, "short": False}


def test_as_many_rows_are_looked_at_however_a_step_is_cut(tiny_data: Path, teachers: dict[str, str]) -> None:
    found = {}
    for parts in (1, 4):
        recipe = settled(automatic(tiny_data, [teachers["good"]], train__accumulate=parts))
        task, device = build_task(recipe, "cpu"), torch.device("cpu")
        found[parts] = look_at_teachers(recipe, task, device, {}).probe.rows
    assert found[1] == found[4] > 0


def test_smaller_images_count_by_their_pixels(tiny_data: Path) -> None:
    plain = tiny_recipe(tiny_data, data__size=32)
    task = build_task(tiny_recipe(tiny_data), "cpu")
    grown = tiny_recipe(tiny_data, data__size=32, data__progressive={"scale": 0.5, "increment": 8, "stop": 1.0})
    whole, less = (probing._whole_steps(recipe, task) for recipe in (plain, grown))
    sides = count_sides(grown, whole)
    expected = sum(count * ((side or 32) / 32) ** 2 for side, count in sides.items())
    assert less == round(expected) < 0.8 * whole


def test_text_without_a_test_split_is_not_looked_at_by_what_it_is_judged_by(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    words = ["time", "train", "model", "head", "start", "fast", "slow", "good"]
    place = tmp_path / "text"
    place.mkdir()
    text = [" ".join(words[i] for i in torch.randint(8, (40,), generator=generator)) for _ in range(60)]
    (place / "train.txt").write_text("\n\n".join(text), encoding="utf-8")
    rows = {}
    for extra in ({}, {"tuning": 10}):
        data = {"name": str(place), "length": 16, "vocab_size": 64, "holdout": 20, **extra}
        model = {"name": "modernbert", "size": "tiny"}
        content = {"task": "mlm", "model": model, "data": data, "train": {"steps": 4, "batch_size": 4}}
        old = tmp_path / f"old-{len(extra)}"
        train(parse_recipe(content, "old"), old)
        recipe = settled(parse_recipe({**content, "distill": {"teachers": [str(old)], **AUTO}}, "new"))
        task = build_task(recipe, "cpu")
        rows[len(extra)] = look_at_teachers(recipe, task, torch.device("cpu"), {}).rows
    assert rows[0].startswith("the first training batches")
    assert rows[1] == "training samples set aside by data.tuning"
