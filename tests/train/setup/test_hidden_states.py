"""Recipes with a loss between hidden states: value, cost, resume, processes, other classes, no head."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart.distill import Teacher
from headstart.errors import RecipeError, TeacherError
from headstart.experiment.calibrate import calibrate
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import distill_kind, plain_kind
from headstart.records import RunRecord, read_record
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe, weight_bits, write_run
from tests.train.dying import train_until_killed
from tests.train.processes import run_together
from tests.train.test_distributed import check_equal_weights, train_each

STATES = {"student": "layer3", "teacher": "layer3", "weight": 0.5}


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A wider network of five classes, where the data has three."""
    return str(write_run(tmp_path / "other", classes=5, width=6))


def taught(data: Path, teacher: str, hidden: dict[str, Any] | None = None, **more: Any) -> Recipe:
    distill = {"teachers": [teacher], "weight": 0.0, "stop": 0.5, "hidden": hidden or STATES, **more.pop("distill", {})}
    return tiny_recipe(data, distill=distill, **more)


def by_hand(session: Session, teacher: Teacher, steps: int) -> list[nn.Parameter]:
    """The same training without anything of ours but batches, for SGD: gradients by autograd through the formula."""
    student: Any = session.student
    optimizer = session.optimizer
    weight = torch.randn(24, 16, generator=torch.Generator().manual_seed(0)) / 4
    projection, speed = nn.Parameter(weight), torch.zeros(24, 16)
    states: dict[str, torch.Tensor] = {}
    student.layer3.register_forward_hook(lambda *given: states.update(own=given[-1]))
    layer: Any = teacher.module.layer3
    layer.register_forward_hook(lambda *given: states.update(given=given[-1]))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = lr = session.recipe.train.lr * _scale(
            session, step
        )
        student.train()
        batch = session.batch(step)
        loss = F.cross_entropy(student(batch.inputs), batch.labels)
        if step < 6:
            with torch.no_grad():
                teacher.module(teacher.prepared(batch.inputs))
            own, given = (
                part.permute(0, 2, 3, 1).reshape(-1, part.shape[1]) for part in (states["own"], states["given"])
            )
            mapped = own @ projection.T
            cosine = (mapped * given).sum(1) / (mapped.norm(dim=1) * given.norm(dim=1))
            loss = loss + 0.5 * (5.5 - step) / 6 * (1 - cosine).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if projection.grad is not None:
            speed = session.recipe.train.momentum * speed + projection.grad
            projection.data -= lr * (projection.grad + session.recipe.train.momentum * speed)
            projection.grad = None
    return [*student.parameters()]


def _scale(session: Session, step: int) -> float:
    from headstart.train.optimizer import lr_scale

    return lr_scale(step, session.total_steps, session.recipe.train)


def test_it_trains_like_the_formula_written_by_hand(tiny_data: Path, other: str) -> None:
    session, plain = Session(taught(tiny_data, other)), Session(tiny_recipe(tiny_data))
    assert session.hidden is not None and session.hidden.teacher is not None and session.distiller is None
    expected = by_hand(plain, copy.deepcopy(session.hidden.teacher), 8)
    for step in range(8):
        session.train_step(step)
    for one, right in zip(session.student.parameters(), expected, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-4, atol=1e-5)


def test_when_the_window_closes_teacher_projection_and_its_state_are_gone(tiny_data: Path, other: str) -> None:
    session = Session(taught(tiny_data, other))
    hidden, optimizer = session.hidden, session.optimizer
    assert hidden is not None
    session.train_step(0)
    (projection,) = hidden.parameters()
    assert optimizer.param_groups[-1]["weight_decay"] == 0 and optimizer.param_groups[-1]["params"] == [projection]
    assert projection in optimizer.state
    for step in range(1, 7):
        session.train_step(step)
    assert hidden.teacher is None and not [*hidden.parameters()] and projection not in optimizer.state
    assert optimizer.param_groups[-1]["params"] == []
    assert not session.student.layer3._forward_hooks  # type: ignore[union-attr]


def test_teachers_of_other_classes_are_for_hidden_states_alone(tiny_data: Path, other: str, tmp_path: Path) -> None:
    record = train(taught(tiny_data, other), tmp_path / "run")
    assert record.teachers[0].name == other and record.teachers[0].parameters
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["hidden_loss" in line for line in lines] == [True] * 3 + [False] * 3
    assert 0 < lines[0]["hidden_loss"] < 2 and lines[0]["hidden_weight"] == pytest.approx(0.5 * 4.5 / 6)
    with pytest.raises(TeacherError, match="5 classes, the student 3"):
        Session(taught(tiny_data, other, distill={"weight": 0.5}))


def test_the_cost_is_the_teachers_forward_to_its_layer_and_the_projection(
    tiny_data: Path, other: str, teachers: list[str], tmp_path: Path
) -> None:
    plain = train(tiny_recipe(tiny_data), tmp_path / "plain")
    early = {"student": "layer1", "teacher": "layer1"}
    first = train(taught(tiny_data, other, early), tmp_path / "first")
    maps = 2 * 24 * 8 * 8 * 9  # FLOPs of a channel in and out, a 3 x 3 convolution of a batch of 24 maps
    assert first.teacher_flops == 6 * maps * (1 * 6 + 2 * 6 * 6)
    assert first.flops == (plain.flops or 0) + first.teacher_flops + 6 * 6 * (24 * 64) * 4 * 6
    last = train(taught(tiny_data, other), tmp_path / "last")
    assert (last.teacher_flops or 0) > 2 * first.teacher_flops and last.teacher_seconds
    both = train(taught(tiny_data, teachers[0], distill={"weight": 0.5}), tmp_path / "both")
    alone = tiny_recipe(tiny_data, distill={"teachers": teachers[:1], "weight": 0.5})
    assert both.teacher_flops == train(alone, tmp_path / "alone").teacher_flops  # one forward for both


def test_with_logits_too_the_teacher_runs_once(
    tiny_data: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(taught(tiny_data, teachers[0], distill={"weight": 0.5}))
    assert session.distiller is not None and session.hidden is not None and session.pool is not None
    calls: list[str] = []
    given = Teacher._given

    def noting(teacher: Teacher, *args: Any) -> Any:
        calls.append(teacher.name)
        return given(teacher, *args)

    monkeypatch.setattr(Teacher, "_given", noting)
    session.train_step(0)
    assert len(calls) == 1
    assert session.hidden.last is not None and session.hidden.last.step == 0
    batch = session.batch(1)
    session.model.train()
    with session.hidden.overhear():
        session._loss_of_logits(batch, batch.inputs)
    overheard = session.hidden._overheard.take()
    assert overheard is not None
    torch.testing.assert_close(overheard.flatten(0, -2), session.hidden.ask(batch.inputs, session.device))


@pytest.mark.parametrize("stop", [0.25, 0.75], ids=["closed before it is killed", "open"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_killed_and_resumed_training_gives_the_same_bits(
    weight: float, stop: float, tiny_data: Path, teachers: list[str], tmp_path: Path
) -> None:
    wider = str(write_run(tmp_path / "wider", width=6, classes=3))
    run = taught(tiny_data, wider, distill={"weight": weight, "stop": stop}, train__optimizer="adamw", train__lr=0.01)
    train(run, tmp_path / "whole")
    train_until_killed(run, tmp_path / "killed", "after the first checkpoint")
    train(run, tmp_path / "killed")
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")


def test_two_processes_learn_what_one_learns(tiny_data: Path, other: str, tmp_path: Path) -> None:
    def cut(**changes: Any) -> Recipe:
        settings = {"train__lr": 0.02, "train__clip_norm": 1.0, "distill": {"stop": 0.75}, **changes}
        return taught(tiny_data, other, **settings)

    train(cut(train__accumulate=2), tmp_path / "one")
    several = {"ddp": cut(), "fsdp": cut(train__sharding="fsdp")}
    run_together(train_each, [(run, tmp_path / name) for name, run in several.items()])
    one = read_record(RunRecord, tmp_path / "one" / "record.json")
    for name in several:
        check_equal_weights(tmp_path / "one", tmp_path / name)
        record = read_record(RunRecord, tmp_path / name / "record.json")
        assert (record.flops, record.teacher_flops) == (one.flops, one.teacher_flops)


def resume_sharded(run: Recipe, folder: Path) -> None:
    """Train half, leave, and come back, in each of two processes."""
    from headstart.train.state.resume import resume, save

    def weights(session: Session) -> list[torch.Tensor]:
        return [getattr(value, "full_tensor", lambda value=value: value)() for value in session.model.parameters()]

    whole = Session(run)
    for step in range(4):
        whole.train_step(step)
    save(whole, folder, 4, 1.0)
    half = Session(run)
    assert resume(half, folder) == (4, 1.0)
    for step in range(4, 8):
        whole.train_step(step)
        half.train_step(step)
    assert all(torch.equal(*pair) for pair in zip(weights(whole), weights(half), strict=True))
    assert whole.hidden is not None and half.hidden is not None
    (one,), (two,) = whole.hidden.parameters(), half.hidden.parameters()
    assert torch.equal(one, two)


def test_a_sharded_checkpoint_takes_the_projection_along(tiny_data: Path, other: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train__sharding": "fsdp", "train__optimizer": "adamw", "train__lr": 0.01}
    run_together(resume_sharded, taught(tiny_data, other, distill={"stop": 1.0}, **settings), tmp_path / "run")


def test_steps_of_other_layers_are_other_kinds_and_are_timed(tiny_data: Path, other: str) -> None:
    runs = [
        taught(tiny_data, other),
        taught(tiny_data, other, {**STATES, "weight": 0.1, "falling": False}),
        taught(tiny_data, other, {"student": "layer1", "teacher": "layer1"}),
        taught(tiny_data, other, distill={"weight": 0.5}),
    ]
    kinds = [distill_kind(run) for run in runs]
    assert kinds[0] == kinds[1] and len(set(kinds)) == 3
    timed = calibrate(runs[:3], pairs=2)
    assert set(timed.kinds) == {plain_kind(runs[0]), kinds[0], kinds[2]}


def test_a_backbone_without_a_head_teaches(tiny_data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4, 10], depths=[1, 1])
    transformers.ResNetModel(config).save_pretrained(tmp_path / "backbone")
    processor = {"image_processor_type": "ConvNextImageProcessor", "image_mean": [0.4], "image_std": [0.2]}
    (tmp_path / "backbone" / "preprocessor_config.json").write_text(json.dumps(processor))
    teacher = str(tmp_path / "backbone")
    hidden = {"student": "layer3", "teacher": "encoder.stages.0"}
    record = train(taught(tiny_data, teacher, hidden), tmp_path / "run")
    assert record.teacher_flops
    with pytest.raises(TeacherError, match="ResNetModel, and its forward gives no logits"):
        Session(taught(tiny_data, teacher, hidden, distill={"weight": 0.5}))


@pytest.mark.parametrize(
    ("hidden", "distill", "message"),
    [
        (
            {"student": "layer4"},
            {},
            r"distill\.hidden: student: ResNet has no layer 'layer4'; did you mean 'layer\d'\?",
        ),
        ({"student": "layer3", "teacher": "encoder"}, {}, r"distill\.hidden: teacher: ResNet has no layer 'encoder'"),
        ({}, {}, r"distill\.hidden: student: ResNet has no stack of layers .*; give the path of a layer"),
        (
            {"student": "layer1", "teacher": "layer3"},
            {},
            r"'layer1' gives \d+ rows of states, the teacher's 'layer3' \d+;",
        ),
        ({"student": 1.5}, {}, r"distill\.hidden\.student"),
        (STATES, {"teachers": ["a", "b"]}, r"hidden does not go with 2 teachers: name one"),
        (STATES, {"cache": "targets"}, r"hidden does not go with cache='targets': a cache holds logits"),
        (STATES, {"stop": "auto"}, r"hidden does not go with stop=auto"),
        (STATES, {"fraction": 0.5}, r"hidden does not go with fraction=0\.5"),
        (STATES, {"residence": "stream"}, r"hidden does not go with residence=stream"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    hidden: dict[str, Any], distill: dict[str, Any], message: str, tiny_data: Path, other: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Session(taught(tiny_data, other, {**hidden, "weight": 0.1}, distill=distill))


def test_a_cache_is_not_filled_for_hidden_states(tiny_data: Path, other: str, tmp_path: Path) -> None:
    from headstart.experiment.fill_cache import cache_recipe

    with pytest.raises(RecipeError, match=r"distill\.hidden: a cache holds logits"):
        cache_recipe(taught(tiny_data, other), tmp_path)


def test_the_doctor_tells_which_layers_meet(tiny_data: Path, other: str, tmp_path: Path) -> None:
    from headstart.commands.doctor import doctor_recipe

    (check,) = doctor_recipe(taught(tiny_data, other), tmp_path)
    assert (
        check.status == "pass"
        and "layer3 of the student learns from layer3, by a linear map from 16 to 24" in check.finding
    )
    (check,) = doctor_recipe(taught(tiny_data, other, {"student": "nowhere"}), tmp_path)
    assert check.status == "fail" and "no layer 'nowhere'" in check.finding
