"""A plan as it is printed, and the command."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from headstart.cli import app
from headstart.commands.plan import plan_tables
from headstart.files import size_told
from headstart.records import Estimate, StepTime
from headstart.train.costs.planned import PlannedMemory, PlannedTeacher, PlanRecord, Way
from tests.tiny import tiny_recipe, write_recipe

PLAN = PlanRecord(
    recipe="a recipe",
    device="some CPU",
    took=20.0,
    steps=1000,
    batch_size=128,
    epochs=2.0,
    plain=StepTime(seconds=0.1, low=0.099, high=0.101),
    distilled=StepTime(seconds=0.14, low=0.139, high=0.141),
    loss=Estimate(value=0.002, low=-0.001, high=0.004),
    student_flops=3e9,
    data_seconds=0.005,
    teachers=[
        PlannedTeacher(
            name="runs/old",
            trained=True,
            quality=0.93,
            metric="accuracy",
            parameters=1_000_000,
            bytes=4_000_000,
            share=1.0,
            forward=StepTime(seconds=0.038),
            flops=1e9,
            training_flops=6e12,
        )
    ],
    memory=PlannedMemory(parameters=8_000_000, gradients=8_000_000, optimizer=16_000_000, distilled_peak=2 * 10**9),
    ways=[
        Way(name="plain", kind="plain", seconds=100.0),
        Way(name="window 0.5", kind="window", own=True, seconds=120.0, overhead=0.2, saving=1 / 6),
        Way(
            name="automatic, to 0.5 at most", kind="automatic", seconds=120.0, overhead=0.2, saving=1 / 6, at_most=True
        ),
        Way(name="cached", kind="cached", seconds=100.0, refused="mixtures"),
        Way(name="init", kind="init", seconds=300.0, overhead=2.0, saving=2.0),
    ],
    recommended="window 0.5",
    reasons=["it has to save 16.7% of the steps"],
)


def printed(plan: PlanRecord) -> str:
    stream = StringIO()
    console = Console(file=stream, width=160)
    for part in plan_tables(plan):
        console.print(part, markup=False, highlight=False)
    return stream.getvalue()


def test_what_there_is_to_know_is_there() -> None:
    told = printed(PLAN)
    for expected in (
        "1000 steps of 128 samples, 2 times through its data; on some CPU",
        "-1.00 to 4.00",
        "0.9300 accuracy",
        "2 runs' FLOPs",
        "38%",
        "2.0 GB",
        "window 0.5 (the recipe)",
        "16.7%",
        "up to 20.0%",
        "more than all",
        "Not here: cached: mixtures",
        "Recommended: window 0.5.",
        "  it has to save 16.7% of the steps.",
    ):
        assert expected in told, expected
    assert "not quiet" not in told and "still to be trained" not in told and "will wait" not in told


def test_doubts_are_told() -> None:
    unsure = PLAN.model_copy(
        update={
            "plain": StepTime(seconds=0.1, low=0.08, high=0.13),
            "data_ahead": True,
            "data_seconds": 0.2,
            "teachers": [PLAN.teachers[0].model_copy(update={"trained": False, "quality": None})],
        }
    )
    told = printed(unsure)
    assert "The machine is not quiet: a plain step takes 80.0 to 130.0 ms" in told
    assert "steps will wait for it" in told and "timed with fresh weights" in told


@pytest.mark.parametrize(("size", "told"), [(12, "12 bytes"), (1500, "1.5 kB"), (3 * 10**9, "3.0 GB")])
def test_bytes_in_words(size: int, told: str) -> None:
    assert size_told(size) == told


def test_the_command(tiny_data: Path, teachers: list[str], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(tiny_data, distill={"teachers": teachers[:1]}))
    arguments = ["plan", str(recipe), "--seconds", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Recommended: " in done.stdout and "getting ready" in done.stderr
    found = CliRunner().invoke(app, [*arguments, "distill.stop=0.25", "--json"])
    assert PlanRecord.model_validate(json.loads(found.stdout)).ways[1].own
    refused = CliRunner().invoke(app, [*arguments, "distill=null"])
    assert refused.exit_code == 2 and refused.stdout == ""
    assert "headstart: distill=null, init=null: the plain run is the only way" in refused.stderr
