"""A student that starts from an older model: of the same shape, a larger or a smaller one, or other classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from headstart.distill.flops import forward_flops
from headstart.errors import HeadstartError, InitError, RecipeError, TeacherError
from headstart.experiment.race import race_recipe
from headstart.experiment.race_parts import train_part
from headstart.experiment.train_teachers import needed, teacher_recipes
from headstart.init import init_from
from headstart.init.filling.check import CHECKED
from headstart.race.statistics.costs import run_cost
from headstart.recipe.recipe import Recipe
from headstart.records import Calibration, InitRecord, RunRecord, StepTime, TeacherCost, read_record
from headstart.tasks.images import ImageModel, build_model
from headstart.teachers.source import Source
from headstart.train import ranks
from headstart.train.parallel import gathered
from headstart.train.run import train
from headstart.train.session import Session
from headstart.train.setup.initial_weights import start_from
from headstart.train.state.run_folder import RunFolder
from tests.tiny import CLASSES, RACE, racing, tiny_recipe, weight_bits, write_run
from tests.train.dying import train_until_killed
from tests.train.processes import run_together

WARM = {**RACE, "primary": "warm", "arms": {"baseline": {}, "warm": {"set": {"init": {"from": "old"}}}}}


def starting(data: Path, source: object, **more: Any) -> Recipe:
    return tiny_recipe(data, train__seed=7, init={"from": str(source), **more})


def state_of(recipe: Recipe) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in Session(recipe).student.state_dict().items()}


def test_a_run_starts_from_the_weights_of_another(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier")
    expected = load_file(earlier / "model.safetensors")
    for recipe in (starting(tiny_data, earlier), tiny_recipe(tiny_data, train__seed=7, train__init_from=str(earlier))):
        state = state_of(recipe)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    fresh = state_of(tiny_recipe(tiny_data, train__seed=7))
    assert not all(torch.equal(fresh[name], value) for name, value in expected.items())


def test_forwards_that_compare_outputs_count(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of no known family that a library builds is a module, and shows whether a growth keeps its outputs."""
    session = Session(tiny_recipe(tiny_data))
    inputs = session.task.batch(0, 24).inputs

    def net(width: int) -> nn.Module:
        first = nn.Conv2d(inputs.shape[1], width, 1)
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(first, nn.BatchNorm2d(width), *pooled, nn.Linear(width, 3))

    student, source = net(8).eval(), net(4).eval()
    monkeypatch.setattr("headstart.train.setup.initial_weights.load_source", lambda spec, runs: Source(spec, source))
    recipe = starting(tiny_data, write_run(tmp_path / "old"))
    record = start_from(student, recipe, session.task, torch.device("cpu"))
    assert record is not None and record.inherited["notes"] == [f"{CHECKED}: the student gives the source's outputs"]
    assert record.flops == forward_flops(student, inputs) + forward_flops(source, inputs) > 0


def test_the_older_name_of_the_section_means_the_same(tiny_data: Path) -> None:
    recipe = tiny_recipe(tiny_data, train__init_from="old")
    assert recipe.init is not None and (recipe.init.source, recipe.init.how, recipe.init.require) == (
        "old",
        "copy",
        1.0,
    )
    assert tiny_recipe(tiny_data, train__init_from=None) == tiny_recipe(tiny_data)
    with pytest.raises(RecipeError, match=r"train.init_from is an older name of init"):
        tiny_recipe(tiny_data, train__init_from="old", init={"from": "other"})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 8}, "the source"), ({"name": "resnet14"}, "the source"), ({"classes": 5}, "require=1")],
)
def test_weights_of_another_shape_are_no_copy(
    change: dict[str, Any], message: str, tiny_data: Path, tmp_path: Path
) -> None:
    earlier = write_run(tmp_path / "earlier", **change)
    with pytest.raises(InitError, match=rf"init.from=.*earlier: .*{message}"):
        Session(tiny_recipe(tiny_data, train__init_from=str(earlier)))


def test_a_larger_run_is_cut_with_its_statistics_taken_anew(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", name="resnet14", width=8)
    recipe = starting(tiny_data, earlier, batches=3)
    session = Session(recipe)
    torch.manual_seed(7)
    by_hand = build_model(ImageModel(name="resnet8", width=4), classes=3, channels=1)
    inputs = [session.task.batch(step, 24).inputs for step in range(3)]
    inherited = init_from(by_hand, load_file(earlier / "model.safetensors"), batches=inputs)
    expected, state = by_hand.state_dict(), session.student.state_dict()
    assert all(torch.allclose(state[name], value) for name, value in expected.items())
    initial = session.initial
    assert initial is not None and initial.inherited == inherited.to_dict() and inherited.share == 1.0
    assert initial.flops == 3 * forward_flops(by_hand, inputs[0]) and initial.seconds > 0
    source = build_model(ImageModel(name="resnet14", width=8), classes=3, channels=1)
    assert initial.source.parameters == sum(parameter.numel() for parameter in source.parameters())


def test_scoring_by_activation_counts_the_forwards_of_the_source(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", name="resnet14", width=8)
    scored = Session(starting(tiny_data, earlier, scores="activation", batches=2))
    spaced = Session(starting(tiny_data, earlier, batches=2))
    assert scored.initial is not None and spaced.initial is not None
    source = build_model(ImageModel(name="resnet14", width=8), classes=3, channels=1)
    of_source = 2 * forward_flops(source, scored.task.batch(0, 24).inputs)
    assert scored.initial.flops == spaced.initial.flops + of_source
    assert scored.initial.inherited["indices"] != spaced.initial.inherited["indices"]


def test_classes_are_matched_by_their_names(tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    names = ["Top", "sideways", "bright"]
    model = build_model(ImageModel(name="resnet8", width=4), classes=3, channels=1)
    place = RunFolder(folder, tiny_recipe(tiny_data))
    description = {"task": "image-classification", "model": {"name": "resnet8", "width": 4}, "classes": names}
    place.save_weights(model, {**description, "channels": 1, "mean": [0.4], "std": [0.2]})
    place.finish(RunRecord(quality=0.5, seconds=1.0))
    state, fresh = state_of(starting(tiny_data, folder)), state_of(tiny_recipe(tiny_data, train__seed=7))
    [head] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    weight = f"{head}.weight"
    assert CLASSES == ("bright", "left", "top")
    assert torch.equal(state[weight][0], model.state_dict()[weight][2])
    assert torch.equal(state[weight][1], fresh[weight][1])
    assert torch.equal(state[weight][2], model.state_dict()[weight][0])


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ({"from": "nowhere"}, TeacherError, "init.from=nowhere: nowhere: no such run folder or file"),
        ({"from": "nowhere", "how": "cut"}, RecipeError, "init.how: Input should be 'copy', 'select'|init.how"),
        (
            {"from": "x", "how": "grow", "shrink": 0.4},
            RecipeError,
            "shrink and perturb are for a source of the same shape",
        ),
        ({"source": "x"}, RecipeError, r"init.from: missing"),
    ],
)
def test_what_is_wrong_is_named(
    init: dict[str, Any], error: type[HeadstartError], message: str, tiny_data: Path
) -> None:
    with pytest.raises(error, match=message):
        Session(tiny_recipe(tiny_data, init=init))


def test_what_is_inherited_too_little_of_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", classes=7)
    with pytest.raises(InitError, match=r"init.from=.*: require=0.999: only 9\d.\d"):
        Session(starting(tiny_data, earlier, require=0.999))


def test_a_run_tells_what_it_took_over_and_counts_its_cost(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", name="resnet14", width=8)
    record = train(starting(tiny_data, earlier), tmp_path / "run")
    assert record.init is not None and record.init == read_record(InitRecord, tmp_path / "run" / "init.json")
    fresh = train(tiny_recipe(tiny_data, train__seed=7), tmp_path / "fresh")
    assert fresh.init is None and not (tmp_path / "fresh" / "init.json").exists()
    assert fresh.flops is not None and record.flops == fresh.flops + record.init.flops and record.init.flops > 0
    assert record.seconds > record.init.seconds
    [cost] = record.teachers
    assert cost == record.init.source and (cost.name, cost.seconds) == (str(earlier), 12.5)


def test_calibrated_seconds_have_the_cost_of_the_start_in_them(tiny_data: Path, tmp_path: Path) -> None:
    run = RunRecord(quality=1, seconds=9, steps={"plain": 10})
    started = run.model_copy(update={"init": InitRecord(source=TeacherCost(name="x"), seconds=2.5, flops=3)})
    calibration = Calibration(kinds={"plain": StepTime(seconds=0.5)})
    assert run_cost(run, "calibrated", calibration) == 5 and run_cost(started, "calibrated", calibration) == 7.5
    assert run_cost(started, "seconds", calibration) == 9  # measured, and in them already


def test_a_resumed_run_does_not_start_again(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", name="resnet14", width=8)
    recipe = starting(tiny_data, earlier)
    whole = train(recipe, tmp_path / "whole")
    train_until_killed(recipe, tmp_path / "killed", "after the first checkpoint")
    begun = read_record(InitRecord, tmp_path / "killed" / "init.json")
    shutil.rmtree(earlier)  # nothing is read of it any more
    resumed = train(recipe, tmp_path / "killed")
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")
    assert (
        resumed.init == begun
        and resumed.teachers == whole.teachers
        and resumed.flops == whole.flops
        and resumed.seconds > begun.seconds
    )


def start_each(recipes: dict[str, Recipe], folder: Path) -> None:
    """Start several recipes in one of some processes, and leave what each of them starts from."""
    for name, recipe in recipes.items():
        session = Session(recipe)
        whole = gathered(session.student)
        if name == "ddp":
            whole = {key: value.cpu() for key, value in session.student.state_dict().items()}
        torch.save(whole, folder / f"{name}-{ranks.rank()}.pt")


def test_several_processes_start_from_what_one_does(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", name="resnet14", width=8)
    recipe = starting(tiny_data, earlier, scores="activation")
    expected = state_of(recipe)
    sharded = recipe.model_copy(update={"train": recipe.train.model_copy(update={"sharding": "fsdp"})})
    run_together(start_each, {"ddp": recipe, "fsdp": sharded}, tmp_path)
    for name in ("ddp-0", "ddp-1", "fsdp-0"):
        found = torch.load(tmp_path / f"{name}.pt")
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[key], value) for key, value in expected.items())


def test_a_race_trains_the_weights_first_and_charges_for_them(tiny_data: Path, tmp_path: Path) -> None:
    recipe = racing(tiny_data, race=WARM, distill=None)
    record = race_recipe(recipe, tmp_path / "race")
    assert record.failures == [] and (tmp_path / "race/teachers/old/record.json").exists()
    for run in record.runs:
        assert [teacher.name for teacher in run.teachers] == (["old"] if run.arm == "warm" else [])
        assert all(teacher.flops and teacher.parameters for teacher in run.teachers)
        assert run.teacher_flops == 0 and (run.init is not None) == (run.arm == "warm")
    assert {result.arm for result in record.results} == {"warm"}
    assert all(result.teacher_cost is not None for result in record.results)
    part = train_part(recipe, tmp_path / "race", "runs/warm-b4-s0")
    assert part in record.runs


def test_one_teacher_may_be_both(tiny_data: Path, tmp_path: Path) -> None:
    recipe = racing(tiny_data, init={"from": "old"})
    assert needed(recipe) == ["old"]
    [made] = teacher_recipes(recipe, [recipe]).values()
    assert made.init is None and made.distill is None
    cached = tiny_recipe(tiny_data, distill={"teachers": ["a", "b"], "cache": "c"}, init={"from": "b"})
    assert needed(cached) == ["b"]
    record = race_recipe(recipe, tmp_path / "race")
    assert all([teacher.name for teacher in run.teachers] == ["old"] for run in record.runs)
