"""The loss benchmark on a few rows: that what it compares is the same work, and that it reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import loss
import pytest
import torch
from torch.nn import functional as F

import loss_formulations as ways
from headstart.records import read_record
from loss_formulations import Formulation, Work
from results_file import Figure, Result

CPU = torch.device("cpu")
TRIAL = ["--pairs", "2", "--rows", "64", "--classes", "4096", "--device", "cpu", "--no-compiled"]


@pytest.fixture(scope="module")
def work() -> Work:
    return ways.make_work(256, 1024, 16, CPU)


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("fused", "eager", "task_fused", "task_eager", "linear_fused", "linear_eager")
    monkeypatch.setattr(loss, "installed", lambda formulation: formulation.__name__ in ours)


@pytest.mark.usefixtures("without_libraries")
def test_prints_a_table_and_writes_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "peak_bytes", lambda prepare, device: 2 * 64 * 4096)
    loss.main([*TRIAL, "--out", str(tmp_path)])
    result, printed = read_record(Result, tmp_path / "loss.json"), capsys.readouterr().out
    assert {"memory_units", "gradient_error", "time_vs_eager", "linear_time_vs_eager"} <= set(result.figures)
    assert not {"time_vs_trl", "linear_time_vs_liger"} & set(result.figures)
    assert result.figures["memory_units"].value == 1.0
    assert result.figures["time_vs_eager"].n == 2
    assert all(name in printed for name in result.figures)
    assert "1.30: met" in printed
    assert result.command.startswith("python benchmarks/loss.py --pairs 2")


def test_the_usual_loss_is_that_of_the_formula(work: Work) -> None:
    student, teacher = work.student.double(), work.teacher.double()
    p, q = (teacher / 4).softmax(-1), (student / 4).softmax(-1)
    expected = 0.1 * F.cross_entropy(student, work.labels) + 0.9 * 16 * (p * (p / q).log()).sum(-1).mean()
    assert ways.eager(work).item() == pytest.approx(expected.item(), rel=1e-5)
    assert ways.fused(work).item() == pytest.approx(expected.item(), rel=1e-5)
    assert ways.task_fused(work).item() == pytest.approx(ways.task_eager(work).item(), rel=1e-5)
    assert ways.linear_fused(work).item() == pytest.approx(ways.linear_eager(work).item(), rel=1e-4)


@pytest.mark.parametrize("formulation", [ways.torchdistill, ways.trl, ways.linear_liger, ways.linear_trl])
def test_libraries_run(formulation: Formulation, work: Work) -> None:
    if not ways.installed(formulation):
        pytest.skip("the library is not installed")
    assert ways.make_step(formulation, work)().isfinite()
    loss.check_same_objective(work)


@pytest.mark.usefixtures("without_libraries")
def test_other_objectives_are_not_compared(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    loss.check_same_objective(work)
    monkeypatch.setattr(ways, "eager", ways.task_eager)
    with pytest.raises(ArithmeticError, match=r"fused: the loss is .*, and should be"):
        loss.check_same_objective(work)


def test_gradient_error_is_that_of_rounding(work: Work) -> None:
    for formulation in (ways.fused, ways.eager):
        assert 2**-11 < loss.gradient_error(formulation, work).value < 2**-8


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure(value=1.3), "met"),
        (Figure(value=1.31), "missed"),
        (Figure(value=1.2, low=1.1, high=1.31, n=9), "missed"),
    ],
)
def test_goal_is_judged_by_the_upper_end(figure: Figure, verdict: str) -> None:
    assert loss.table_line("memory_units", figure, loss.GOALS).endswith(f"1.30: {verdict}")


def test_first_rows(work: Work) -> None:
    part = work.first(3)
    shapes: Sequence[torch.Size] = [part.student.shape, part.labels.shape, part.hidden.shape, part.weight.shape]
    assert shapes == [(3, 1024), (3,), (3, 16), (1024, 16)]
    assert part.student.requires_grad and part.hidden.requires_grad and not part.teacher.requires_grad
