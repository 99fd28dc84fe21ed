"""The study of automatic stops: that its truth is the truth, and that it counts what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import stop_study
from headstart.distill.stopping.batch_sums import batch_sums
from headstart.records import read_record
from results_file import Result
from stop_streams import Setting, _expected, _sums, simulate
from stop_study import Outcome, outcomes


def test_the_sums_are_those_of_a_distiller() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 9, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(8, (2, 9), generator=draw)
    found = _sums(student.log_softmax(-1), teacher.log_softmax(-1), torch.nn.functional.one_hot(labels, 8).double())
    expected = [batch_sums(*rows, torch.tensor(True)) for rows in zip(student, teacher, labels, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_what_is_expected_is_the_mean_over_labels() -> None:
    draw = torch.Generator().manual_seed(1)
    inputs, truth = torch.randn(1, 20_000, 16, generator=draw), torch.randn(1, 16, 8, generator=draw)
    teachers, student = truth + torch.randn(1, 1, 16, 8, generator=draw), 0.3 * truth
    behind, cosine = _expected(inputs, truth, teachers, student)
    labels = torch.multinomial((inputs @ truth).softmax(-1)[0], 1, generator=draw)
    drawn = torch.zeros(1, 20_000, 8).scatter_(-1, labels.unsqueeze(0), 1.0)
    log_s, log_t = ((inputs @ weights).log_softmax(-1) for weights in (student, teachers[0]))
    rows, own, its, dot, task, distill = _sums(log_s, log_t, drawn)[0]
    assert ((own - its) / rows).item() == pytest.approx(behind.item(), abs=0.03)
    assert (dot / (task * distill).sqrt()).item() == pytest.approx(cosine.item(), abs=0.03)


def test_outcomes_are_told_apart() -> None:
    assert Outcome(stop=100, due=None).false and Outcome(stop=100, due=101).false
    assert not Outcome(stop=100, due=100).false and not Outcome(stop=None, due=5).false
    assert Outcome(stop=None, due=200).missed
    assert not Outcome(stop=None, due=300).missed and not Outcome(stop=250, due=200).missed
    assert not Outcome(stop=None, due=None).missed


def test_a_teacher_that_stays_ahead_and_one_that_never_helps() -> None:
    stays, useless = (
        outcomes(simulate(setting, 3, 0, steps=400), warmup=0.05)
        for setting in (Setting(0.0, seen=8, lr=0.1), Setting(30.0, lr=0.1))
    )
    assert [one.stop for one in stays] == 3 * [None] == [one.due for one in stays]
    assert all(one.stop is not None and one.stop < 60 and not one.false for one in useless)


def test_writes_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(stop_study, "SETTINGS", {"poor.fast": Setting(1.5, lr=0.5)})
    stop_study.main(["--trainings", "2", "--series", "2", "--out", str(tmp_path)])
    figures = read_record(Result, tmp_path / "stop-study.json").figures
    assert figures["stopped.all"].value == 1.0 and figures["false_stop_rate.all"].n == 2
    assert figures["worst_false_stop_rate"] == figures["false_stop_rate.poor.fast"]
    assert "2 of 2 stopped" in capsys.readouterr().out
