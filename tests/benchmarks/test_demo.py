"""The demo's repetitions, drawn from a race of many seeds, and the newcomer's figures."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import newcomer
import pytest
from demo import figures_of, primary_result, repetitions

from headstart.errors import HeadstartError
from headstart.race import judge
from headstart.records import Arm, Calibration, RaceRecord, RunRecord, StepTime, TeacherCost

BUDGETS, SEEDS = [60.0, 120.0, 240.0], list(range(100, 106))
STEP = StepTime(seconds=0.5, low=0.5, high=0.5, n=3, data_seconds=0.0)


def bank(*, lift: float = 0.1, noise: float = 0.001) -> RaceRecord:
    """A race in which the taught arm is better by `lift`, and seeds differ by `noise`."""
    spread = random.Random(0)
    runs = [
        RunRecord(
            arm=arm,
            budget=budget,
            seed=seed,
            quality=0.1 * budget**0.3 + gain + spread.gauss(0, noise),
            seconds=budget,
            flops=budget,
            steps={"plain": int(budget)},
            metric="accuracy",
            teachers=[TeacherCost(name="old", quality=0.9)],
        )
        for arm, gain in (("baseline", 0.0), ("distill", lift))
        for budget in BUDGETS
        for seed in SEEDS
    ]
    arms = [Arm(name="baseline"), Arm(name="distill")]
    times = Calibration(kinds={"plain": STEP}, device="cpu", seconds=1.0)
    race = RaceRecord(arms=arms, baseline="baseline", primary="distill", budgets=BUDGETS, seeds=SEEDS, runs=runs)
    return judge(race.model_copy(update={"calibration": times}))


def test_a_repetition_has_the_cells_of_the_race_with_fewer_seeds() -> None:
    whole = bank()
    qualities: dict[tuple[str, float], set[float]] = {(run.arm, run.budget): set() for run in whole.runs}
    for run in whole.runs:
        qualities[run.arm, run.budget].add(run.quality)
    for race in repetitions(whole, 3, 5):
        drawn: dict[tuple[str, float], list[float]] = {}
        for run in race.runs:
            drawn.setdefault((run.arm, run.budget), []).append(run.quality)
        assert drawn.keys() == qualities.keys()
        assert all(len(set(values)) == 3 and set(values) <= qualities[cell] for cell, values in drawn.items())
        assert sorted({run.seed for run in race.runs}) == race.seeds == [0, 1, 2]


def test_a_large_gain_is_resolved_each_time_and_none_hardly_ever() -> None:
    for lift, resolved in ((0.1, 1.0), (0.0, 0.2)):
        whole = bank(lift=lift, noise=0.01 if not lift else 0.001)
        figures = figures_of(whole, repetitions(whole, 3, 20), workers=2)
        share = figures["share_resolved"].value
        assert share == resolved if lift else share <= resolved
        assert figures["share_faster"].value + figures["share_slower"].value == pytest.approx(share)
    assert figures["teacher_quality"].value == 0.9
    assert figures["seeds_of_a_repetition"].value == 3
    # 2 arms x 3 seeds x 420 steps of half a second, by two workers.
    assert figures["training_minutes"].value == pytest.approx(2 * 3 * 420 * 0.5 / 2 / 60)


def test_each_arm_and_clock_has_its_figures() -> None:
    whole = bank()
    assert primary_result(whole).clock == "calibrated"
    figures = figures_of(whole, repetitions(whole, 3, 2), workers=2)
    assert {"speedup.distill.calibrated", "speedup_over_all_qualities.distill.calibrated"} <= figures.keys()
    flops = next(result for result in whole.results if (result.arm, result.clock) == ("distill", "flops"))
    assert ("speedup.distill.flops" in figures) == (flops.speedup is not None)


def test_what_the_demo_said() -> None:
    figures = newcomer.said(bank())
    assert figures["demo_resolved"].value == 1
    assert figures["demo_speedup"].n == len(SEEDS)


def test_a_part_that_fails_is_told_with_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(
        ".venv/installed:\n\t@echo installed with $(PIP_FLAGS)\ndemo:\n\t@echo no data; exit 3\n"
    )
    if subprocess.run(["make", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("make is not installed")
    with pytest.raises(HeadstartError, match=r"(?s)make demo failed.*no data"):
        newcomer.first_hour(tmp_path, {"PATH": "/usr/bin:/bin"}, "--quiet", test=False)
