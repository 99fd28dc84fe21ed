"""The benchmark of the adapters on tiny networks: that it compares steps that do the same work, and that it reports."""

from __future__ import annotations

from pathlib import Path

import adapters
import pytest
import torch

from framework_loops import Turns
from headstart.records import read_record
from results_file import Result

TRIAL = ["--pairs", "1", "--depth", "8", "--batch-size", "2", "--device", "cpu"]


@pytest.mark.slow
def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapters.main([*TRIAL, "--out", str(tmp_path)])
    result = read_record(Result, tmp_path / "adapters.json")
    printed = capsys.readouterr().out
    assert set(result.figures) == {f"{loop}_step_ratio" for loop in adapters.LOOPS if adapters.is_installed(loop)}
    assert all(name in printed for name in result.figures)
    assert all(f"{loop} is not installed" in printed for loop in adapters.LOOPS if not adapters.is_installed(loop))


def made(turns: Turns, losses: dict[bool, float]) -> list[bool]:
    """Make all steps, and tell whose they were."""
    kinds = []
    for _ in range(turns.steps):
        turns.begin()
        kinds.append(turns.ours)
        turns.made(torch.tensor(losses[turns.ours]))
        turns.end()
    return kinds


def test_turns_are_in_abba_order_and_only_pairs_that_count_are_told() -> None:
    turns = Turns(pairs=4, device=torch.device("cpu"))
    kinds = made(turns, {True: 0.5, False: 0.5})
    assert kinds[:8] == [True, False, False, True] * 2
    assert kinds.count(True) == kinds.count(False)
    assert len(turns.ratios()) == 4


def test_turns_that_do_different_work_are_not_compared() -> None:
    turns = Turns(pairs=2, device=torch.device("cpu"))
    made(turns, {True: 0.5, False: 0.6})
    with pytest.raises(ArithmeticError, match="the steps do different work"):
        turns.ratios()
