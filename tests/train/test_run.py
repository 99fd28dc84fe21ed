"""One run: what it leaves behind, and how it fails."""

from __future__ import annotations

import errno
import itertools
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

from headstart.distill import Teacher
from headstart.distill.flops import forward_flops, step_flops
from headstart.errors import HeadstartError, TeacherError
from headstart.recipe.load import load_recipe
from headstart.records import RunRecord, read_record
from headstart.tasks.images import task as image_task
from headstart.teachers import load_teacher
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, weight_bits, write_run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_learns(tiny_data: Path, tmp_path: Path) -> None:
    record = train(tiny_recipe(tiny_data, train__steps=40), tmp_path)
    assert record.metric == "accuracy" and record.higher_is_better
    assert record.quality > 0.9
    assert record.losses["held_out_loss"] < 0.4


def test_it_leaves_recipe_metrics_weights_and_record(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data)
    told: list[tuple[int, int]] = []
    labels = {"arm": "plain", "budget": 12.0, "seed": 3}
    record = train(recipe, tmp_path, progress=lambda step, total, loss: told.append((step, total)), labels=labels)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert read_record(RunRecord, tmp_path / "record.json") == record
    assert (record.arm, record.budget, record.seed) == ("plain", 12.0, 3)
    assert record.settings["train"]["lr"] == 0.1 and record.environment["torch"] == torch.__version__
    assert told == [(step, 12) for step in range(2, 13, 2)]
    written = lines(tmp_path)
    assert [line["step"] for line in written] == [2, 4, 6, 8, 10, 12]
    assert [line["seconds"] for line in written] == sorted(line["seconds"] for line in written)
    assert all({"loss", "lr"} <= set(line) for line in written)
    assert record.seconds >= written[-1]["seconds"] - 1e-3


def test_metrics_tell_the_parts_of_a_distilled_loss(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    distill = {"teachers": teachers, "weight": 0.6, "stop": 0.5}
    train(tiny_recipe(tiny_data, distill=distill), tmp_path)
    for line in lines(tmp_path):
        if line["step"] <= 6:
            mixed = 0.4 * line["task_loss"] + 0.6 * line["distill_loss"]
            assert line["weight"] == 0.6 and line["loss"] == pytest.approx(mixed, rel=1e-5)
        else:
            assert "distill_loss" not in line


def test_a_run_folder_is_a_teacher_without_further_words(tiny_data: Path, teachers: list[str]) -> None:
    recipe = load_recipe(Path(teachers[0]) / "recipe.yaml")
    session = Session(recipe)
    for step in range(session.total_steps):
        session.train_step(step)
    inputs = session.task.batch(0, 24).inputs
    session.model.eval()
    with torch.no_grad():
        expected = session.model(inputs)
    assert torch.equal(load_teacher(teachers[0]).logits(inputs), expected)


def test_flops_are_those_of_every_step_and_every_drawn_teacher(tiny_data: Path, tmp_path: Path) -> None:
    small, large = write_run(tmp_path / "small", width=2), write_run(tmp_path / "large", width=6)
    distill = {"teachers": [str(small), str(large)], "weights": [1, 2], "start": 0.25, "stop": 1.0, "every": 2}
    recipe = tiny_recipe(tiny_data, distill=distill, train__seed=2)
    session = Session(recipe)
    assert session.pool is not None
    inputs = session.task.batch(0, 24).inputs
    teachers = [teacher for teacher in session.pool.teachers if isinstance(teacher, Teacher)]
    forward = [forward_flops(teacher.module, inputs) for teacher in teachers]
    drawn = [session.pool.chosen(step)[0] for step in range(3, 12, 2)]
    assert set(drawn) == {0, 1}
    record = train(recipe, tmp_path / "run")
    assert record.teacher_flops == sum(forward[index] for index in drawn)
    assert record.flops == 12 * step_flops(session.student, inputs) + record.teacher_flops
    assert sum(record.steps.values()) == 12 and sorted(record.steps.values()) == [5, 7]


def test_the_record_knows_what_its_teachers_cost(tiny_data: Path, tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher")
    recipe = tiny_recipe(tiny_data, distill={"teachers": ["old"]})
    record = train(recipe, tmp_path / "run", teacher_paths={"old": teacher})
    (cost,) = record.teachers
    assert (cost.name, cost.quality, cost.seconds, cost.flops, cost.steps) == ("old", 0.9, 12.5, 1e9, {"plain": 12})
    assert cost.parameters == sum(p.numel() for p in load_teacher(teacher).module.parameters())


def test_seconds_count_training_and_not_evaluation_or_checkpoints(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def working(name: str, seconds: float) -> None:
        original = getattr(Session, name)

        def slow(self: Session, *arguments: Any) -> Any:
            nonlocal now
            now += seconds
            return original(self, *arguments)

        monkeypatch.setattr(Session, name, slow)

    working("train_step", 1.0)
    working("evaluate", 1000.0)
    working("state_dict", 1000.0)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert train(tiny_recipe(tiny_data, train__log_every=5), tmp_path).seconds == 12.0


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        HeadstartError, match=r"the loss is (nan|inf) at step \d+; a lower train.lr, a longer train.warmup"
    ):
        train(tiny_recipe(tiny_data, train__lr=1e30), tmp_path)
    assert not (tmp_path / "record.json").exists()


def test_a_student_that_diverges_in_its_last_step_is_refused_as_well(tiny_data: Path, tmp_path: Path) -> None:
    """Its loss was measured before the update that was too large."""
    recipe = tiny_recipe(tiny_data, train__lr=1e30, train__steps=1, train__schedule="linear", train__warmup=0.0)
    with pytest.raises(HeadstartError, match=r"held_out_loss is (nan|inf) after step 1; a lower train.lr"):
        train(recipe, tmp_path)
    assert not (tmp_path / "record.json").exists()


def test_a_teacher_that_gives_nan_is_named(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = write_run(tmp_path / "teacher")
    monkeypatch.setattr(nn.Linear, "forward", nan_in_eval(nn.Linear.forward))
    recipe = tiny_recipe(tiny_data, distill={"teachers": ["broken"]})
    with pytest.raises(TeacherError, match="teacher 'broken' gave non-finite logits at step 0"):
        train(recipe, tmp_path / "run", teacher_paths={"broken": teacher})


def nan_in_eval(forward: Any) -> Any:
    def broken(self: nn.Linear, inputs: torch.Tensor) -> Any:
        output = forward(self, inputs)
        return output if self.training else output * torch.nan

    return broken


def test_a_folder_of_another_run_is_left_alone(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(tiny_data), tmp_path)
    with pytest.raises(HeadstartError, match=r"another recipe .*train.lr was 0.1, is now 0.2\); give another"):
        train(tiny_recipe(tiny_data, train__lr=0.2), tmp_path)
    (tmp_path / "recipe.yaml").write_text("of: another version\n")
    with pytest.raises(HeadstartError, match=r"recipe.yaml is none that this version can read\)"):
        train(tiny_recipe(tiny_data), tmp_path)


def test_an_operator_of_unknown_flops_is_told_before_the_first_step(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sorting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 3)

        def forward(self, inputs: torch.Tensor) -> Any:
            return self.linear(inputs.flatten(1).sort(1).values)

    monkeypatch.setattr(image_task, "build_model", lambda *_, **__: Sorting())
    with pytest.raises(HeadstartError, match=r"nothing is known about the operator aten.sort"):
        train(tiny_recipe(tiny_data), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_disk_that_was_full_at_a_checkpoint_costs_no_bits(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, save, saved = tiny_recipe(tiny_data), torch.save, 0

    def full_at_the_second(*arguments: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(torch, "save", full_at_the_second)
    with pytest.raises(HeadstartError, match=r"the checkpoint of step 8 .*No space left on device.* the run resumes"):
        train(recipe, tmp_path / "full")
    train(recipe, tmp_path / "full")
    train(recipe, tmp_path / "roomy")
    names = ("full", "roomy")
    one, other = (weight_bits(tmp_path / name) for name in names)
    assert one == other


@pytest.mark.parametrize("moment", ["recipe.yaml", "metrics.jsonl", "model.safetensors"])
def test_a_folder_that_cannot_be_written_is_named(
    moment: str, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(*_: Any) -> None:
        monkeypatch.setattr("builtins.open" if moment == "metrics.jsonl" else "os.replace", full)

    recipe, begin = tiny_recipe(tiny_data), {"recipe.yaml": 0, "metrics.jsonl": 2, "model.safetensors": 12}[moment]
    if not begin:
        fill()
    with pytest.raises(HeadstartError, match=r"cannot be written \(No space left on device\); make room .* resumes"):
        train(recipe, tmp_path, progress=lambda step, *_: fill() if step == begin else None)


def test_teachers_seconds_follow_from_the_number_of_their_forwards(
    tiny_data: Path, teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("headstart.train.costs.clock.time.perf_counter", lambda: float(next(ticks)))
    recipe = tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 0.5}, train__accumulate=2)
    record = train(recipe, tmp_path)
    # One tick a forward, two micro-batches a step, half of the twelve steps.
    assert record.teacher_seconds == 12.0


def test_a_window_that_never_opens_is_a_training_without_teachers(
    tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    closed = train(tiny_recipe(tiny_data, distill={"teachers": teachers, "stop": 0.0}), tmp_path / "closed")
    without = train(tiny_recipe(tiny_data), tmp_path / "without")
    assert (closed.quality, closed.flops, closed.steps) == (without.quality, without.flops, without.steps)
    assert closed.teacher_flops == closed.teacher_seconds == 0
