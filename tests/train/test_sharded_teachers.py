"""Teachers in parts over two processes: their outputs, and the training with them, are those of whole ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from headstart.distill import TeacherPool
from headstart.errors import RecipeError
from headstart.recipe.recipe import Recipe
from headstart.recipe.step_kinds import distill_kind
from headstart.records import RunRecord, read_record
from headstart.train import ranks
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import tiny_recipe
from tests.train.processes import run_together
from tests.train.test_distributed import check_equal_weights, train_each

STEADY = {"train__lr": 0.02}  # so that sums in another order stay what they are: rounding


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


def check_shards(module: nn.Module) -> None:
    parameters = list(module.parameters())
    assert parameters and all(isinstance(parameter, DTensor) for parameter in parameters)
    assert not any(parameter.requires_grad for parameter in parameters)
    held = sum(parameter.to_local().numel() for parameter in parameters if isinstance(parameter, DTensor))
    assert held < 0.7 * sum(parameter.numel() for parameter in parameters)


def ask_in_parts() -> None:
    """Each process has other weights, of which the first one's are taken, and images of its own."""
    device = ranks.connect().device
    first = network(0)
    pool = TeacherPool([network(ranks.rank())], residence="sharded")
    images = torch.randn(2 + ranks.rank(), 3, 6, 6, generator=torch.Generator().manual_seed(ranks.rank())).to(device)
    for step in range(3):
        for teacher in pool.asked(step, device, following=step + 1):
            torch.testing.assert_close(teacher.targets(images, None), first.to(device)(images), rtol=1e-5, atol=1e-6)
    check_shards(pool.live[0].module)
    outline = pool.outline(pool.live[0])
    assert {name: value.shape for name, value in outline.state_dict().items()} == {
        name: value.shape for name, value in first.state_dict().items()
    }
    assert all(value.is_meta for value in outline.state_dict().values())


def test_the_weights_are_the_first_processs_and_let_go_after_the_forward() -> None:
    run_together(ask_in_parts)


def compare(sharded: Recipe, whole: Recipe) -> None:
    session, other = Session(sharded), Session(whole)
    assert session.pool is not None and other.pool is not None
    inputs = session.task.batch(0, 8, part=ranks.rank(), parts=2).inputs
    for teacher, resident in zip(session.pool.live, other.pool.live, strict=True):
        session.pool.bring(teacher, session.device)
        other.pool.bring(resident, other.device)
        torch.testing.assert_close(teacher.logits(inputs), resident.logits(inputs), rtol=1e-4, atol=1e-5)
        check_shards(teacher.module)
        assert not any(isinstance(parameter, DTensor) for parameter in resident.module.parameters())


def test_outputs_are_those_of_whole_teachers(tiny_data: Path, teachers: list[str]) -> None:
    recipes = (
        tiny_recipe(tiny_data, distill={"teachers": teachers, "residence": residence})
        for residence in ("sharded", "device")
    )
    run_together(compare, *recipes)


def test_training_is_that_with_whole_teachers(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    def recipe(residence: str, sharding: str = "none") -> Recipe:
        distill = {"teachers": teachers, "stop": 0.75, "residence": residence}
        return tiny_recipe(tiny_data, train__sharding=sharding, train__accumulate=2, distill=distill, **STEADY)

    runs = {"whole": recipe("device"), "sharded": recipe("sharded"), "all": recipe("sharded", "fsdp")}
    run_together(train_each, [(each, tmp_path / name) for name, each in runs.items()])
    records = {name: read_record(RunRecord, tmp_path / name / "record.json") for name in runs}
    for name in ("sharded", "all"):
        check_equal_weights(tmp_path / "whole", tmp_path / name)
        assert records[name].teacher_flops == records["whole"].teacher_flops
        assert [teacher.parameters for teacher in records[name].teachers] == [
            teacher.parameters for teacher in records["whole"].teachers
        ]


def test_a_masked_lm_teacher_has_its_rows_picked(tmp_path: Path) -> None:
    """Its word embeddings are its head's weights, too."""
    pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")
    from tests.train.test_masked_lm import SETTINGS, recipe, write_text

    text = write_text(tmp_path / "text")
    train(recipe(text, train={**SETTINGS["train"], "steps": 4}), tmp_path / "teacher")

    def distilling(residence: str) -> Recipe:
        distill: dict[str, Any] = {"teachers": [str(tmp_path / "teacher")], "residence": residence}
        return recipe(text, train={**SETTINGS["train"], "lr": 1e-3}, distill=distill)

    names = {"whole": distilling("device"), "sharded": distilling("sharded")}
    run_together(train_each, [(each, tmp_path / name) for name, each in names.items()])
    check_equal_weights(tmp_path / "whole", tmp_path / "sharded", tolerance=1e-4)


def test_draws_of_each_process_are_refused(tiny_data: Path, teachers: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"per_rank=true: all processes have to ask the same teacher with residence:"):
        tiny_recipe(tiny_data, distill={"teachers": teachers, "per_rank": True, "residence": "sharded"})


def test_their_step_is_a_kind_of_its_own(tiny_data: Path, teachers: list[str]) -> None:
    sharded, whole = (
        tiny_recipe(tiny_data, distill={"teachers": teachers, "residence": name}) for name in ("sharded", "device")
    )
    assert distill_kind(sharded) != distill_kind(whole)
