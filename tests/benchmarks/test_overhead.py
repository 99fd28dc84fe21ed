"""The overhead benchmark on tiny networks: that the steps it compares do the same work, and that it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import overhead
import overhead_steps
import pytest
import torch
from torch.nn import functional as F

import torchdistill_box
from headstart.records import read_record
from results_file import Figure, Result

CPU = torch.device("cpu")
TRIAL = ["--pairs", "2", "--runs", "2", "--depth", "8", "--batch-size", "2", "--device", "cpu"]


@pytest.fixture
def without_torchdistill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchdistill_box, "is_installed", lambda: False)


@pytest.fixture(scope="module")
def work() -> overhead_steps.Work:
    return overhead_steps.make_work(8, 2, CPU)


@pytest.mark.usefixtures("without_torchdistill")
def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overhead.main([*TRIAL, "--out", str(tmp_path)])
    result = read_record(Result, tmp_path / "overhead.json")
    printed = capsys.readouterr().out
    assert set(result.figures) == {*overhead.GOALS, "early_teacher_ratio", "teacher_share"}
    assert all(figure.n == 2 for figure in result.figures.values())
    assert all(name in printed for name in result.figures)
    assert "torchdistill is not installed" in printed
    assert result.command.startswith("python benchmarks/overhead.py --pairs 2")


def test_step_by_hand_has_the_loss_of_the_formula(work: overhead_steps.Work) -> None:
    p = F.softmax(work.teacher(work.images) / 4, dim=-1)
    logits = work.student(work.images)
    q = F.softmax(logits / 4, dim=-1)
    expected = 0.1 * F.cross_entropy(logits, work.labels) + 0.9 * 16 * (p * (p / q).log()).sum(-1).mean()
    for early in (False, True):
        assert overhead_steps.by_hand(work, early=early)().item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.usefixtures("without_torchdistill")
def test_steps_compared_give_the_same_loss_each_time(work: overhead_steps.Work) -> None:
    steps = overhead.comparisons(work)
    for name in ("step_ratio", "prefetch_step_ratio", "early_teacher_ratio", "off_window_ratio", "auto_stop_ratio"):
        step, reference = steps[name]
        assert step().item() == pytest.approx(reference().item(), rel=1e-5)
        assert step().item() == step().item()


@pytest.mark.usefixtures("without_torchdistill")
def test_throughout_is_beside_a_step_and_a_forward(work: overhead_steps.Work) -> None:
    """The reference makes both: the loss that it gives is the plain step's."""
    calls = list[int]()
    handle = work.teacher.register_forward_hook(lambda *_: calls.append(1))
    _, reference = overhead.comparisons(work)["throughout_ratio_over_teacher_forward"]
    calls.clear()
    assert reference().item() == pytest.approx(overhead_steps.bare(work)().item(), rel=1e-5)
    handle.remove()
    assert len(calls) == 1


def test_default_run_distils_three_of_twenty_steps(work: overhead_steps.Work) -> None:
    counts = {"student": 0, "teacher": 0}

    def count(name: str) -> Any:
        return getattr(work, name).register_forward_hook(lambda *_: counts.update({name: counts[name] + 1}))

    handles = [count(name) for name in counts]
    overhead_steps.default_run(work)()
    for handle in handles:
        handle.remove()
    assert counts == {"student": 20, "teacher": 3}


def test_different_work_is_not_compared(work: overhead_steps.Work) -> None:
    with pytest.raises(ArithmeticError, match=r"step_ratio.*different work"):
        overhead.check_same_loss("step_ratio", overhead_steps.bare(work), overhead_steps.by_hand(work))


@pytest.mark.skipif(not torchdistill_box.is_installed(), reason="torchdistill is not installed")
def test_torchdistill_does_the_same_work(work: overhead_steps.Work) -> None:
    step, reference = overhead.comparisons(work)["torchdistill_step_ratio"]
    assert step().item() == pytest.approx(reference().item(), rel=1e-5)


@pytest.mark.parametrize(("high", "verdict"), [(1.02, "met"), (1.021, "missed")])
def test_goal_is_judged_by_the_upper_end(high: float, verdict: str) -> None:
    line = overhead.table_line("step_ratio", Figure(value=1.0, low=0.99, high=high, n=200))
    assert line.endswith(f"1.02: {verdict}")
