"""A student that starts from weights of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headstart.errors import TeacherError
from headstart.experiment.race import race_recipe
from headstart.experiment.race_parts import train_part
from headstart.experiment.train_teachers import needed, teacher_recipes
from headstart.train.initial_weights import start_from
from headstart.train.session import Session
from tests.tiny import RACE, racing, tiny_recipe, write_run

WARM = {**RACE, "primary": "warm", "arms": {"baseline": {}, "warm": {"set": {"train.init_from": "old"}}}}


def warm_race(data: Path) -> Any:
    return racing(data, race=WARM, distill=None)


def test_a_run_starts_from_the_weights_of_another(tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier")
    session = Session(tiny_recipe(tiny_data, train__seed=7, train__init_from=str(earlier)))
    expected = load_file(earlier / "model.safetensors")
    state = session.student.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    fresh = Session(tiny_recipe(tiny_data, train__seed=7)).student.state_dict()
    assert not all(torch.equal(fresh[name], value) for name, value in expected.items())


@pytest.mark.parametrize("change", [{"width": 8}, {"name": "resnet14"}, {"classes": 5}])
def test_weights_of_another_model_are_refused(change: dict[str, Any], tiny_data: Path, tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "earlier", **change)
    with pytest.raises(
        TeacherError, match=r"train\.init_from: .*earlier: the weights do not fit ResNet: .*like itself"
    ):
        Session(tiny_recipe(tiny_data, train__init_from=str(earlier)))


def test_what_is_not_there_is_refused(tiny_data: Path) -> None:
    with pytest.raises(TeacherError, match="nowhere: no such run folder or file"):
        Session(tiny_recipe(tiny_data, train__init_from="nowhere"))


def test_names_in_a_library_are_refused() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(TeacherError, match=r"train\.init_from: hf:owner/name: a run folder or a file of weights"):
        start_from(torch.nn.Linear(1, 1), "hf:owner/name")


def test_a_race_trains_the_weights_first_and_charges_for_them(tiny_data: Path, tmp_path: Path) -> None:
    recipe = warm_race(tiny_data)
    record = race_recipe(recipe, tmp_path / "race")
    assert record.failures == [] and (tmp_path / "race/teachers/old/record.json").exists()
    for run in record.runs:
        assert [teacher.name for teacher in run.teachers] == (["old"] if run.arm == "warm" else [])
        assert all(teacher.flops and teacher.parameters for teacher in run.teachers)
        assert run.teacher_flops == 0
    assert {result.arm for result in record.results} == {"warm"}
    part = train_part(recipe, tmp_path / "race", "runs/warm-b4-s0")
    assert part in record.runs


def test_one_teacher_may_be_both(tiny_data: Path, tmp_path: Path) -> None:
    recipe = racing(tiny_data, train={**tiny_recipe(tiny_data).train.model_dump(), "init_from": "old"})
    assert needed(recipe) == ["old"]
    [made] = teacher_recipes(recipe, [recipe]).values()
    assert made.train.init_from is None
    assert needed(tiny_recipe(tiny_data, distill={"teachers": ["a", "b"], "cache": "c"}, train__init_from="b")) == ["b"]
    record = race_recipe(recipe, tmp_path / "race")
    assert all([teacher.name for teacher in run.teachers] == ["old"] for run in record.runs)
