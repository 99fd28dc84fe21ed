"""The files that hold the numbers of the docs."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import results_file
from headstart.records import read_record
from results_file import RESULTS, Figure, Result, command_line, finish, new_result, write_result

ROOT = RESULTS.parents[1]
CPU = torch.device("cpu")


def result(name: str = "speed", **figures: Figure) -> Result:
    return new_result(name, figures, command="python benchmarks/speed.py", device=CPU, seconds=12.34)


def test_file_holds_what_was_measured_and_leaves_out_what_was_not(tmp_path: Path) -> None:
    written = result(ratio=Figure(value=1.01, low=0.99, high=1.03, n=200), time=Figure(value=3, unit="s"))
    path = write_result(written, tmp_path)
    content = json.loads(path.read_text())
    assert path == tmp_path / "speed.json"
    assert list(content) == ["name", "command", "device", "date", "versions", "seconds", "figures"]
    assert content["seconds"] == 12.3
    assert content["figures"] == {
        "ratio": {"value": 1.01, "low": 0.99, "high": 1.03, "n": 200},
        "time": {"value": 3.0, "unit": "s"},
    }
    assert read_record(Result, path) == written


def test_the_end_of_a_benchmark_writes_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"x": Figure(value=1)}
    begin = time.perf_counter() - 60
    finish("speed", figures, command="python", device=CPU, begin=begin, folder=tmp_path, packages=["pydantic"])
    written = read_record(Result, tmp_path / "speed.json")
    assert written.figures == figures and "pydantic" in written.versions
    assert 60 <= written.seconds < 70
    assert capsys.readouterr().out == f"{tmp_path / 'speed.json'}, {written.seconds:.0f} s on {written.device}\n"


def test_versions_are_those_of_packages_that_matter_and_are_installed() -> None:
    figures = {"x": Figure(value=1)}
    named = new_result("x", figures, command="", device=CPU, seconds=1, packages=["pydantic", "no-such-package-at-all"])
    assert {"python", "torch", "pydantic"} <= set(named.versions)
    assert "no-such-package-at-all" not in named.versions
    assert "device" not in named.versions
    assert "CPU" in named.device


@pytest.mark.parametrize("name", ["../speed", "Speed", "a b", "", ".hidden"])
def test_name_must_be_a_plain_file_name(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        result(name, ratio=Figure(value=1))


def test_result_without_figures_is_refused() -> None:
    with pytest.raises(ValidationError, match="figures"):
        result()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figure_must_be_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Figure(value=value)


def test_command_can_be_repeated_from_the_root() -> None:
    command = command_line(results_file.__file__, ["--out", "a folder"])
    assert shlex.split(command) == ["python", "benchmarks/results_file.py", "--out", "a folder"]
    assert (ROOT / shlex.split(command)[1]).is_file()


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_recorded_results_are_whole(path: Path) -> None:
    recorded = read_record(Result, path)
    assert recorded.name == path.stem
    for figure in recorded.figures.values():
        assert figure.low is None or figure.low <= figure.value
        assert figure.high is None or figure.value <= figure.high
