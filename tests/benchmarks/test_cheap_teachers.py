"""The benchmark of cheap teachers on tiny networks: that options compute the same, and that it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cheap_teachers
from headstart.records import read_record
from results_file import Result

TRIAL = ["--pairs", "2", "--depths", "8", "--batch-size", "2", "--device", "cpu"]


def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cheap_teachers.main([*TRIAL, "--out", str(tmp_path)])
    result = read_record(Result, tmp_path / "cheap-teachers.json")
    assert set(result.figures) == {f"resnet8_{option}_ratio" for option in (*cheap_teachers.OPTIONS, "fraction_half")}
    printed = capsys.readouterr().out
    assert all(name in printed and figure.n == 2 for name, figure in result.figures.items())
    assert result.command.startswith("python benchmarks/cheap_teachers.py --pairs 2")


def test_an_option_that_changes_the_outputs_is_not_timed() -> None:
    logits = torch.randn(8, 10)
    with pytest.raises(ArithmeticError, match="fold: the logits differ from the reference's by 0"):
        cheap_teachers.check_same_outputs("fold", lambda: logits * 1.5, lambda: logits)
    cheap_teachers.check_same_outputs("size_24", lambda: logits * 1.5, lambda: logits)
